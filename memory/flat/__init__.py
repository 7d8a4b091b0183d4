"""A copy of what readers need from the tables, in files that are mapped into memory.

Loading LanceDB takes longer than reading a small memory, and a large one need not be read whole. So each write of the
tables also appends the rows to one Arrow stream per table, and to one file of fp16 rows per column of vectors, in the
folder ``flat``. Its card, FLAT.json, says what the copy is for the published tables and for those before: the same
files, of which the newer copy has more rows, or more dead ones. The card is written before MEMORY.json, so a kill at
any time leaves a copy. The tables stay what counts: when the copy is missing, damaged or of other tables, readers use
the tables.

An Arrow stream is checked whole when it is opened, as texts and ids are a small part; vectors are checked in blocks as
they are read (see `memory.mapped`).
"""
