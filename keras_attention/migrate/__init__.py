"""Old checkpoints -> ours: tf.contrib (TF 1), tfa.seq2seq and Keras 2, without any of them.

`python -m keras_attention.migrate OLD --model MODEL --out NEW.weights.h5` does it from a shell;
docs/migrate_weights.md shows how.
"""

from keras_attention.migrate.checkpoints import Checkpoint, read
from keras_attention.migrate.matching import Assignment, Plan, Rules, plan
from keras_attention.migrate.writing import migrate, write

__all__ = ["Assignment", "Checkpoint", "Plan", "Rules", "migrate", "plan", "read", "write"]
