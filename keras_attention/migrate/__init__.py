"""Load checkpoints of tf.contrib (TF 1), tfa.seq2seq and Keras 2 into our models.

None of these libraries is needed. The command is `python -m keras_attention.migrate OLD
--model MODEL --out NEW.weights.h5`; see docs/migrate_weights.md.
"""

from keras_attention.migrate.checkpoints import Checkpoint, read
from keras_attention.migrate.matching import Assignment, Plan, Rules, plan
from keras_attention.migrate.writing import migrate, write

__all__ = ["Assignment", "Checkpoint", "Plan", "Rules", "migrate", "plan", "read", "write"]
