"""`tf.distribute` under Keras' `fit`: several replicas train as one would.

    from keras_attention.training import distribute

    keras.utils.set_random_seed(1)
    strategy = distribute.make_strategy("multi_worker")   # reads TF_CONFIG
    with strategy.scope():
        model = ...
        model.compile(...)
    model.fit(dataset, ...)                               # of global batches

The dataset is the one of a single process: the strategy cuts each of its batches into as many
shares as there are replicas. With `training.TokenCrossentropy`, `training.ClipByGlobalNorm` and the
metrics of this package, N replicas then compute what one does, up to the rounding of sums.
"""

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import tensorflow as tf

from keras_attention.training.cluster import Cluster, check_port, read_cluster
from keras_attention.training.rendezvous import code_about, meet

STRATEGIES = ("none", "mirrored", "multi_worker")


class _SameBatches(tf.distribute.Strategy):
    """Replicas get shares of the batches that one replica would get."""

    def experimental_distribute_dataset(self, dataset, options=None):
        """The dataset of global batches, each cut into one share a replica; see `split`.

        Keras calls it with what `fit`, `evaluate` and `predict` received.
        """
        return split(dataset, self)


class MirroredStrategy(_SameBatches, tf.distribute.MirroredStrategy):
    """`tf.distribute.MirroredStrategy` whose replicas share the batches of one.

    See `make_strategy`. Constructed like its base class.

    >>> strategy = MirroredStrategy(["CPU:0"])
    >>> strategy.num_replicas_in_sync
    1
    """


class MultiWorkerMirroredStrategy(_SameBatches, tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` that works with Keras 3, and checks the workers.

    Before TensorFlow starts, the workers meet (`rendezvous.meet`): all must be there, with the same
    versions, code, dtype policy, random state and `same`.

    Keras 3 calls `reduce` with a whole batch, and to average scalars along an axis
    (github.com/keras-team/keras/issues/20585); this class answers both.

    Args:
        same: name -> value of what else must be the same on every worker, such as a hash of the
            data and the hyperparameters.
        timeout: seconds to wait for the other workers.
        **kwargs: of the base class.

    Raises:
        ValueError: TF_CONFIG is malformed, the port of this worker is in use, or the workers
            differ. The message names what differs.
        TimeoutError: a worker has not come.
    """

    def __init__(self, same: Mapping[str, str] = {}, timeout: float = 600.0, **kwargs):
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise ValueError(f"timeout must be seconds above 0. Received: {timeout!r}.")
        if not isinstance(same, Mapping):
            raise ValueError(f"same must be a dict, of names and values. Received: {same!r:.200}.")
        self.cluster = read_cluster()
        check_port(self.cluster)
        state = sha256(repr(random.getstate()).encode()).hexdigest()[:16]
        seed = {"random state (call keras.utils.set_random_seed before)": state}
        meet(self.cluster, {**code_about(), **seed, **same}, timeout)
        super().__init__(**kwargs)

    def reduce(self, reduce_op, value, axis):
        """See the base class."""
        if tf.nest.is_nested(value):  # Keras wants any batch, to build the model
            return tf.nest.map_structure(lambda x: self.experimental_local_results(x)[0], value)
        if axis is not None and value.shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)


def make_strategy(
    name: str, same: Mapping[str, str] = {}, timeout: float = 600.0
) -> tf.distribute.Strategy:
    """The strategy of a name: "none", "mirrored" or "multi_worker".

    Args:
        name: "none" is TensorFlow's default strategy, one replica. "mirrored" has a replica on each
            GPU of this machine, or on each logical CPU. "multi_worker" has workers as TF_CONFIG
            says, which `python -m keras_attention.training.launch` sets on one machine; without
            TF_CONFIG there is one worker.
        same, timeout: of `MultiWorkerMirroredStrategy`.

    Raises:
        ValueError: another name, and as `MultiWorkerMirroredStrategy`.

    >>> make_strategy("none").num_replicas_in_sync
    1
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = [] if tf.config.list_physical_devices("GPU") else _logical_cpus()
        return MirroredStrategy(devices or None)
    if name == "multi_worker":
        return MultiWorkerMirroredStrategy(same, timeout)
    raise ValueError(f"A strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}.")


def _logical_cpus():
    return [f"CPU:{place}" for place, _ in enumerate(tf.config.list_logical_devices("CPU"))]


def cluster_of(strategy: tf.distribute.Strategy | None = None) -> Cluster:
    """Which worker of how many this process is under a strategy (default: the current one).

    >>> cluster_of().is_chief
    True
    """
    current: Any = strategy or tf.distribute.get_strategy()
    own = getattr(current, "cluster", None)
    if own is not None:
        return own
    resolver = current.cluster_resolver
    jobs = resolver.cluster_spec().as_dict() if resolver else {}
    workers = [*jobs.get("chief", []), *jobs.get("worker", [])]
    if len(workers) < 2:
        return Cluster()
    index = resolver.task_id + len(jobs.get("chief", [])) * (resolver.task_type == "worker")
    return Cluster(tuple(workers), index)


def chief_path(path: str | os.PathLike, strategy: tf.distribute.Strategy | None = None) -> str:
    """`path` for the chief; for other workers, a path of the same name that is thrown away.

    Saving reads variables that replicas hold parts of (the state of metrics, the sums of
    `AccumulateGradients`), and they all have to take part. `model.save(chief_path("model.keras"))`
    on every worker writes one file.

    >>> chief_path("model.keras")
    'model.keras'
    """
    path = os.fspath(path)
    if cluster_of(strategy).is_chief:
        return path
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return os.path.join(folder, os.path.basename(path))


def wait_for_all(strategy: tf.distribute.Strategy | None = None) -> None:
    """Return when every worker has called it, such as when the chief has written a file.

    >>> wait_for_all()
    """
    current: Any = strategy or tf.distribute.get_strategy()
    if len(cluster_of(current).addresses) > 1:
        current.reduce("SUM", tf.constant(0), axis=None)


def split(
    dataset: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Cut each global batch into as many shares as the strategy has replicas.

    Replica r of R gets rows r B/R to (r+1) B/R of each batch of B rows, with the padding of the
    whole batch. If R does not divide B, what is done depends on the elements:

        (x, y, weights)   the last shares get copies of the last row with a weight of 0
        (x, y)            shares differ in size by a row; the first batch must be divisible, and no
                          share may be empty
        x, (x,)           shares differ in size by a row (for `predict`)

    Every worker reads the whole dataset, which must be the same and in the same order on each. To
    read shares only, see `shares`.

    Args:
        dataset: elements are tensors [B, ...] or structures of such.
        strategy: with one replica the dataset is returned as it is.

    Raises:
        InvalidArgumentError: in iteration, a batch that cannot be cut, as above.

    >>> dataset = tf.data.Dataset.range(6).batch(4)
    >>> split(dataset, tf.distribute.get_strategy()) is dataset
    True
    """
    replicas, cluster = strategy.num_replicas_in_sync, cluster_of(strategy)
    if replicas == 1:
        return dataset
    local = replicas // len(cluster.addresses)
    first = cluster.index * local

    def cut(number, batch):
        numbers = tf.data.Dataset.range(first, first + local, output_type=tf.int32)
        return numbers.map(lambda replica: share(number, batch, replica, replicas))

    # One iteration of the dataset for all replicas of this worker: a second one may be shuffled
    # in another order.
    return _distributed(dataset.enumerate().flat_map(cut), dataset.cardinality(), strategy)


def shares(
    make: Callable[[int, int], tf.data.Dataset], strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """A dataset for `fit` of which each replica reads its own share.

    Args:
        make: (number of the replica, how many there are) -> its dataset, such as
            `lambda worker, workers: corpus.batches(64, seed=1, worker=worker, workers=workers)`.
            All must have the same number of elements.
        strategy: the one that the model was made under.

    >>> every = shares(lambda worker, workers: tf.data.Dataset.range(worker, 4, workers),
    ...                tf.distribute.get_strategy())
    >>> [int(number) for number in every]
    [0, 1, 2, 3]
    """
    replicas, cluster = strategy.num_replicas_in_sync, cluster_of(strategy)
    if replicas == 1:
        return make(0, 1)
    local = replicas // len(cluster.addresses)
    first = cluster.index * local
    parts = [make(number, replicas) for number in range(first, first + local)]
    joined = parts[0]
    if local > 1:  # one element of each in turn
        turns = tf.data.Dataset.range(local).repeat()
        joined = tf.data.Dataset.choose_from_datasets(parts, turns, stop_on_empty_dataset=True)
    return _distributed(joined, parts[0].cardinality(), strategy)


def _distributed(dataset, count, strategy):
    """Elements for the replicas of this worker, in turn, as a dataset of `count` steps."""
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    distributed = strategy.distribute_datasets_from_function(lambda context: dataset)
    # TensorFlow counts the elements of all replicas, but a step of `fit` takes one of each.
    distributed._cardinality = count.numpy()  # noqa: SLF001
    return distributed


def share(number: Any, batch: Any, replica: Any, replicas: int) -> Any:
    """Rows of global batch `number` for replica `replica` of `replicas`, as `split` says.

    >>> batch = (tf.range(5), tf.range(5), tf.ones(5))
    >>> x, y, weights = share(0, batch, 1, 2)
    >>> x.numpy().tolist(), weights.numpy().tolist()
    ([3, 4, 4], [1.0, 1.0, 0.0])
    """
    leaves = [x for x in tf.nest.flatten(batch) if isinstance(x, tf.Tensor)]
    rows = tf.shape(leaves[0])[0]
    labelled = isinstance(batch, tuple) and len(batch) > 1
    weighted = isinstance(batch, tuple) and len(batch) == 3
    checks = []
    if labelled and not weighted:
        words = (
            f"With {replicas} replicas, the number of rows of a global batch must be a multiple of "
            f"{replicas} (in the last batch of an epoch: at least {replicas}). Choose another "
            "batch size, drop the remainder, or give weights, (x, y, weights). Received: rows ="
        )
        fits = tf.where(number == 0, tf.equal(rows % replicas, 0), rows >= replicas)
        checks = [tf.debugging.Assert(fits, [words, rows])]
    with tf.control_dependencies(checks):
        each = tf.identity(-(-rows // replicas) if weighted else rows // replicas)
    # Without weights the first shares have the rows that are too many.
    extra = tf.constant(0) if weighted else rows - each * replicas
    first = replica * each + tf.minimum(replica, extra)
    size = each + tf.cast(replica < extra, tf.int32)
    places = first + tf.range(size)
    inside = tf.minimum(places, rows - 1)

    def cut(x):
        return tf.gather(x, inside)

    found = tf.nest.map_structure(cut, batch)
    if not weighted:
        return found
    real = places < rows

    def weigh(w):
        kept = tf.reshape(real, tf.concat([[size], tf.ones([tf.rank(w) - 1], tf.int32)], 0))
        return w * tf.cast(kept, w.dtype)

    return (*found[:2], tf.nest.map_structure(weigh, found[2]))
