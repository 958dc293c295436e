"""`--mode=train`: train, keep the best model, and resume an earlier run."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from apps.chatbot import corpus, files, prepared, store
from apps.chatbot import settings as stored
from apps.chatbot.examples import examples_of
from apps.chatbot.progress import Progress
from apps.chatbot.responder import Responder
from keras_attention.data import Limits
from keras_attention.training import (
    Resume,
    Summaries,
    TrainingCheckpoint,
    average_checkpoints,
    distribute,
)

_OWN = ("best", "waited", "kept", "averaged")  # our part of the progress in a checkpoint
SAVE_EVERY = 1000  # steps: the most that a killed process can lose


class Stopped(Exception):
    """Ctrl-C."""


def run(
    directory: str,
    wanted: dict,
    explicit_flags: dict,
    limits: Limits | None = None,
    prepare_above: int = 2**50,
    strategy: str = "none",
) -> bool:
    """Train in `directory` with the settings `wanted`, or resume with those stored there.

    `limits`: of the data. `prepare_above`: data of more bytes are prepared, see `prepared`.
    `strategy`: of `distribute.make_strategy`. Returns True if it finished; False after Ctrl-C.
    """
    keras.utils.set_random_seed(wanted["seed"])  # the workers compare their random state
    flags = json.dumps([wanted, explicit_flags], sort_keys=True)
    same = {"flags": hashlib.sha256(flags.encode()).hexdigest()[:16]}
    replicas = distribute.make_strategy(strategy, same)
    arguments = directory, wanted, explicit_flags, limits, prepare_above, replicas
    if distribute.cluster_of(replicas).is_chief:
        with files.locked(directory):
            files.check_directory(directory)
            return _run(*arguments)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return _run(*arguments)


def _run(directory, wanted, explicit_flags, limits, prepare_above, strategy) -> bool:
    cluster = distribute.cluster_of(strategy)
    chief, alone = cluster.is_chief, len(cluster.addresses) == 1
    if not chief:
        distribute.wait_for_all(strategy)  # until the chief has written what the others read
    resumes = stored.exists(directory)
    settings = (
        _resumed(directory, explicit_flags)
        if resumes
        else stored.of_new_model(wanted, explicit_flags)
    )
    if "epochs" in explicit_flags and "steps" not in explicit_flags:
        settings["steps"] = None  # or those of an earlier run would override --epochs
    _check_batch_size(settings, strategy)
    keras.config.set_dtype_policy(settings["dtype_policy"])
    keras.utils.set_random_seed(settings["seed"])
    if resumes:
        corpus.check_there(settings, "If it was moved, pass --{name}=NEW_PATH.")
        large = corpus.is_prepared(directory)
    else:
        large = prepared.is_large(settings, prepare_above)
    examples = examples_of(directory, settings, limits, large, resumes)
    tokenizer = examples.tokenizer
    largest = (examples.longest + 1) * min(settings["batch_size"], examples.count)
    store.check_memory(settings, tokenizer.vocab_size, largest)

    def make_model():
        with strategy.scope():
            return store.make_model(settings, tokenizer.vocab_size, examples.target_counts)

    model = make_model() if alone else None
    if chief:
        if not resumes:
            tokenizer.save(directory)
        corpus.save_record(directory, {**examples.record, "prepared": large})
        # The settings are written last: a directory with settings can be resumed.
        stored.save(directory, settings)
        distribute.wait_for_all(strategy)
    model = model or make_model()  # the workers make it together
    _say(
        f"{examples.count} training pairs ({examples.too_long} too long), {examples.held_out} held "
        f"out, {tokenizer.vocab_size} tokens, {model.count_params():,} parameters"
        + f", {strategy.num_replicas_in_sync} replicas"
        * (strategy.num_replicas_in_sync > 1)
    )
    try:
        _fit(directory, settings, model, examples.epoch, examples.per_epoch, examples.dev_set)
    except Stopped:
        return False
    if chief:
        model, tokenizer = store.load_model(directory, settings)
        _show_replies(Responder(model, tokenizer, settings), examples.shown)
    distribute.wait_for_all(strategy)
    return True


def _check_batch_size(settings, strategy) -> None:
    """Raise ValueError if the replicas cannot have equal shares of a batch."""
    replicas = strategy.num_replicas_in_sync
    if settings["batch_size"] % replicas:
        raise ValueError(
            f"--batch_size is that of all {replicas} replicas together, and must be a multiple of "
            f"their number. Received: --batch_size={settings['batch_size']}. Choose "
            f"{max(1, round(settings['batch_size'] / replicas)) * replicas}, or another number of "
            "workers."
        )


def _resumed(directory, explicit_flags) -> dict:
    """The stored settings. Paths of data may change if their identity is known or they are gone."""
    settings = stored.load(directory, {})
    moved = [
        name
        for name in stored.PATHS
        if corpus.has_record(directory) or not os.path.exists(settings[name] or ".")
    ]
    return stored.load(directory, explicit_flags, (*stored.FREE, *moved))


def _fit(
    directory: str,
    settings: dict,
    model: keras.Model,
    train_epoch: Callable[[int, int], tf.data.Dataset],
    per_epoch: int,
    dev_set: tf.data.Dataset,
) -> None:
    """Train from the last checkpoint on.

    Args:
        directory: of the model.
        settings: of the run.
        model: compiled.
        train_epoch: (epoch, skip) -> the batches of the epoch without the first `skip`.
        per_epoch: how many batches an epoch has.
        dev_set: batches of the held out pairs.
    """
    folder = os.path.join(directory, store.CHECKPOINTS)
    checkpoint = TrainingCheckpoint(folder, model, model.optimizer)
    progress = _progress(checkpoint)
    last_step = settings["steps"] or settings["epochs"] * per_epoch
    if progress["step"]:
        _say(f"Resuming after {progress['step']} steps, in epoch {progress['epoch'] + 1}")
    if progress["batch"] > per_epoch:
        raise ValueError(
            f"The data have fewer pairs than those this training began with: {per_epoch} batches "
            f"in an epoch, of which {progress['batch']} are done. Restore the data, or start a "
            "new training in another --model_dir."
        )
    kept_one = progress["best"] is not None or "kept" in progress
    needs_one = progress["step"] and (kept_one or progress["step"] >= last_step)
    if needs_one and not os.path.exists(os.path.join(directory, store.MODEL)):
        _restore_model(directory, checkpoint, progress, model, dev_set)
    own = {name: progress[name] for name in _OWN if name in progress}
    resume = Resume(folder, every_steps=SAVE_EVERY, progress=own)
    logs = [Summaries(os.path.join(directory, store.LOGS))] if _is_chief(model) else []
    keeper = _ProgressSaver(directory, resume, settings, per_epoch, last_step)
    if progress["step"] < last_step and not keeper.out_of_patience:
        model.fit(
            resume.data(train_epoch),
            epochs=math.ceil(last_step / per_epoch),
            validation_data=dev_set,
            shuffle=False,
            callbacks=[resume, keeper, *logs],
            verbose=0,
        )
        if resume.step == last_step and resume.batch:
            dev = model.evaluate(dev_set, return_dict=True, verbose=0)
            dev = {f"val_{name}": value for name, value in dev.items()}
            keeper.on_epoch_end(resume.epoch, {**keeper.logs, **dev})
            _note(checkpoint, own)
            keeper.on_saved()
        if resume.interrupted:
            _say(
                f"Stopped after {resume.step} steps. Run the same command again to continue "
                "from here."
            )
            raise Stopped
        progress["step"] = resume.step
    progress.update(own)
    if keeper.out_of_patience:
        _say(f"Stopped early: no better dev loss in {progress['waited']} epochs")
    if settings["average"] > 1:
        _average(directory, checkpoint, progress, model, dev_set)


def _is_chief(model) -> bool:
    """Whether this process writes the files of all workers."""
    return distribute.cluster_of(model.distribute_strategy).is_chief


def _save_model(directory, model) -> None:
    if _is_chief(model):
        store.save_model(directory, model)


def _progress(checkpoint) -> dict:
    """Restore the checkpoint's variables, and return the progress of the run."""
    progress = {"step": 0, "epoch": 0, "batch": 0, "best": None, "waited": 0}
    progress.update(checkpoint.restore() or {})
    counts = [progress[name] for name in ("step", "epoch", "batch", "waited")]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError(
            f"The checkpoint holds an invalid progress: {progress!r:.200}. Restore the "
            "model directory from a copy, or start a new training in another --model_dir."
        )
    return progress


def _restore_model(directory, checkpoint, progress, model, dev_set) -> None:
    """Write the missing model from the last checkpoint, because the best one is lost."""
    loss = dev_loss(model.evaluate(dev_set, return_dict=True, verbose=0))
    _save_model(directory, model)
    progress["kept"] = loss
    _note(checkpoint, {"kept": loss})
    _say(
        f"{store.MODEL} was missing: written again, from the checkpoint after "
        f"{progress['step']} steps, dev loss {loss:.4f}"
    )


def _note(checkpoint, changes: dict) -> None:
    """Change values in the progress of the last checkpoint; the model gets its state."""
    progress, arrays = checkpoint.load(checkpoint.latest())
    checkpoint.save({**progress, **changes}, arrays)


def _average(directory, checkpoint, progress, model, dev_set) -> None:
    """Use the mean of the last epochs' weights as the model, if its dev loss is better."""
    paths = store.saved_weights(directory)
    if len(paths) < 2 or progress.get("averaged") == progress["step"]:
        return
    for path in paths:
        store.check_weights(path, model)
    average_checkpoints(model, paths)
    loss = dev_loss(model.evaluate(dev_set, return_dict=True, verbose=0))
    better = loss < _kept(progress)
    if better:
        _save_model(directory, model)
    # That continues from the last step, not from the mean.
    _note(checkpoint, {"averaged": progress["step"], **({"kept": loss} if better else {})})
    _say(f"mean of the last {len(paths)} epochs: dev loss {loss:.4f}" + ", kept" * better)


def dev_loss(logs: dict, prefix: str = "") -> float:
    """The mean cross-entropy per token, from the logs of `evaluate` or `fit`.

    If the perplexity exceeds float32, the mean over the batches.
    """
    perplexity = logs[prefix + "perplexity"]
    return float(math.log(perplexity) if math.isfinite(perplexity) else logs[prefix + "loss"])


def _kept(progress: dict) -> float:
    """The dev loss of the saved model."""
    return progress.get("kept", math.inf if progress["best"] is None else progress["best"])


class _ProgressSaver(keras.callbacks.Callback):
    """Keeps the best model, and tells and ends what `Resume` resumes; called after it."""

    def __init__(self, directory, resume, settings, per_epoch, last_step):
        super().__init__()
        self.directory, self.resume, self.settings = directory, resume, settings
        self.per_epoch, self.last_step = per_epoch, last_step
        self.logs: dict = {}
        self.line = ""  # about the epoch that ended
        self.ticker = _ProgressPrinter(last_step)

    def get_state(self):
        """Nothing: the state is in the progress of `Resume`."""

    def set_state(self, state):
        """Nothing, as in `get_state`."""

    @property
    def progress(self) -> dict:
        return self.resume.progress

    @property
    def out_of_patience(self) -> bool:
        patience = self.settings["patience"]
        return bool(patience) and self.progress["waited"] >= patience

    def on_epoch_begin(self, epoch, logs=None):
        self.ticker.begin(epoch, self.resume.step)

    def on_train_batch_end(self, batch, logs: Any = None):
        self._check_finite(logs["loss"], "loss")
        if self.resume.batch == self.per_epoch:
            return
        self.ticker.tick(self.resume.step, logs["loss"])
        if self.resume.step == self.last_step:
            # Not the end of the epoch: a longer run would not have stopped within it.
            self.logs = logs
            self.resume.stop()

    def on_epoch_end(self, epoch, logs: Any = None):
        loss = dev_loss(logs, "val_")
        self._check_finite(loss, "dev loss")
        if loss < _kept(self.progress):
            _save_model(self.directory, self.model)
            self.progress["kept"] = loss
        if self.resume.batch == self.per_epoch:
            self._end_epoch(loss)
        self.ticker.end()
        self.line = (
            f"epoch {epoch + 1}, step {self.resume.step} of at most {self.last_step}: "
            f"loss {logs['loss']:.4f}, perplexity {logs['perplexity']:.3f}; "
            f"dev loss {loss:.4f}, perplexity {logs['val_perplexity']:.3f}"
        )
        if self.out_of_patience:
            self.resume.stop()

    def on_saved(self):
        """An epoch that is told is saved."""
        if self.line:
            _say(self.line)
        self.line = ""

    def _end_epoch(self, loss):
        best = self.progress["best"]
        if best is None or loss < best:
            self.progress.update(best=loss, waited=0)
        else:
            self.progress["waited"] += 1
            if not self.settings["warmup_steps"]:
                optimizer = self.model.optimizer
                optimizer.learning_rate = 0.5 * float(optimizer.learning_rate)
        if self.progress.get("kept") == self.progress["best"]:
            del self.progress["kept"]  # the saved model is that of the best epoch
        if self.settings["average"] > 1 and _is_chief(self.model):
            count = self.settings["average"]
            store.save_weights(self.directory, self.model, self.resume.step, count)

    def _check_finite(self, loss, what):
        if not math.isfinite(loss):
            raise ValueError(
                f"The {what} became {loss} at step {self.resume.step}. The model and "
                "checkpoints saved before are intact. Try a lower --learning_rate in another "
                "--model_dir."
            )


class _ProgressPrinter:
    """Prints the progress within an epoch, see `Progress`."""

    def __init__(self, last_step):
        self.last_step = last_step
        self.progress = Progress()
        self.epoch = self.first = 0

    def begin(self, epoch, step):
        self.epoch, self.first = epoch, step
        self.progress.restart()

    def tick(self, step, loss):
        self.progress.tell(lambda: self._line(step, loss))

    def end(self):
        self.progress.end()

    def _line(self, step, loss):
        speed = (step - self.first) / self.progress.seconds
        return (
            f"  step {step} of at most {self.last_step}, in epoch {self.epoch + 1}: loss "
            f"{loss:.4f}, {speed:.1f} steps/s"
        )


def _show_replies(responder, samples) -> None:
    for (source, _), replies in zip(samples, responder.replies([s for s, _ in samples])):
        _say(f"  {source}\n    -> {replies[0]}")


def _say(line: str) -> None:
    print(line, flush=True)
