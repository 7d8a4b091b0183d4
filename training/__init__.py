"""Teaching the encoder: data, matching, losses and the loop, and scenes composed from picture packages to train on."""
