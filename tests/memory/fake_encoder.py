import hashlib

import numpy as np

from memory import EncoderCard


class FakeEncoder:
    """Unit vectors seeded by the hash of each text; remembers every text it was asked for."""

    def __init__(self, *, name="fake", dim=16, precision="fp32", fail_after_chunks=None):
        fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.card = EncoderCard(name, fingerprint, precision, dim, {"model": name})
        self.calls = []
        self._fail_after_chunks = fail_after_chunks

    @property
    def texts(self):
        return [text for call in self.calls for text in call]

    def encode_texts(self, texts):
        if self._fail_after_chunks is not None and len(self.calls) >= self._fail_after_chunks:
            raise InterruptedError("the encoder stops here")
        self.calls.append(list(texts))
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text):
        seed = hashlib.sha256(f"{self.card.name}/{text}".encode()).digest()
        row = np.random.default_rng(list(seed)).standard_normal(self.card.dim)
        return (row / np.linalg.norm(row)).astype(np.float32)

    def count_truncated(self, texts):
        return sum(len(text) > 100 for text in texts)


class HashEncoder(FakeEncoder):
    """As quick as a memory can be written: a vector is the sum of rows of three tables, chosen by the text's hash."""

    def __init__(self, *, dim, name="hash"):
        super().__init__(name=name, dim=dim)
        self._tables = np.random.default_rng(0).standard_normal((3, 4096, dim), dtype=np.float32)

    def encode_texts(self, texts):
        hashes = np.frombuffer(
            b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts), "<u8"
        )
        rows = sum(self._tables[i, (hashes >> np.uint64(12 * i)) & np.uint64(4095)] for i in range(3))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def vector(self, text):
        return self.encode_texts([text])[0]
