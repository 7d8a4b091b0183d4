"""Training of the encoder: GRAIN's model, matching, losses and optimisation, and the run around them.

The entry point is `training.run.train`, or on the command line `recognizer train CONFIG`. This package builds on
`recognizer`, which must not import it, and its top level does not know the starter encoder's recipe, which is in
`training.starter`.
"""
