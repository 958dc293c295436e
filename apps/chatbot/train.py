"""`--mode=train`: learn, keep the best, and go on where an earlier run stopped."""

import math
import os
import signal
import sys
from typing import Any

import keras
import numpy as np

from apps.chatbot import corpus, search, store
from apps.chatbot import settings as stored
from apps.chatbot.responder import Responder
from keras_attention import text
from keras_attention.data import batches
from keras_attention.training import Summaries, TrainingCheckpoint, average_checkpoints

SAVE_EVERY = 1000  # steps: what a killed process may lose of a long epoch


class Stopped(Exception):
    """Ctrl-C."""


def run(directory: str, wanted: dict, said: dict) -> bool:
    """Train in `directory` with the settings `wanted`, or resume with those stored there.

    True: it ran to its end; False: Ctrl-C stopped it.
    """
    resumes = stored.exists(directory)
    settings = stored.load(directory, said) if resumes else stored.of_new_model(wanted, said)
    if "epochs" in said and "steps" not in said:
        settings["steps"] = None  # or those of an earlier run would override what is asked for
    keras.config.set_dtype_policy(settings["dtype_policy"])
    keras.utils.set_random_seed(settings["seed"])
    pairs = corpus.load(settings)
    if resumes:
        tokenizer = text.load(directory)
    else:
        tokenizer = store.make_tokenizer(settings, pairs.train)
    search.plan(settings, tokenizer)  # what it refuses is better told now than after the training
    if not resumes:
        _make(directory)
        tokenizer.save(directory)
    train = encode(tokenizer, pairs.train, settings["max_length"])
    dev = encode(tokenizer, pairs.dev, settings["max_length"])
    if not train[0] or not dev[0]:
        raise ValueError(
            f"No pair is at most --max_length={settings['max_length']} tokens long on both sides "
            f"(training: {len(train[0])} of {len(pairs.train)}, dev: {len(dev[0])} of "
            f"{len(pairs.dev)}). Raise --max_length."
        )
    spoken = np.concatenate([np.append(target, text.END) for target in train[1]])
    counts = np.bincount(spoken, minlength=tokenizer.vocab_size)
    model = store.make_model(settings, tokenizer.vocab_size, counts)
    # The settings come last: where they are, the directory can be resumed.
    stored.save(directory, settings)
    _say(
        f"{len(train[0])} pairs to learn from ({len(pairs.train) - len(train[0])} too long), "
        f"{len(dev[0])} held out, {tokenizer.vocab_size} tokens, "
        f"{model.count_params():,} parameters"
    )
    try:
        _fit(directory, settings, model, train, dev)
    except Stopped:
        return False
    if os.path.exists(os.path.join(directory, store.MODEL)):
        model, tokenizer = store.load_model(directory, settings)
        _show_replies(Responder(model, tokenizer, settings), pairs)
    return True


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"--model_dir={directory} cannot be made: {error.strerror}. Choose another one."
        ) from error


def encode(tokenizer, pairs, max_length) -> tuple[list, list]:
    """Text pairs -> ids of the sources, ids of the targets; too long ones are left out."""
    sides = [
        [np.asarray(ids, np.int32) for ids in tokenizer.encode(list(side)).to_list()]
        for side in zip(*pairs)
    ]
    kept = [pair for pair in zip(*sides) if max(map(len, pair)) <= max_length]
    return [source for source, _ in kept], [target for _, target in kept]


def _fit(directory, settings, model, train, dev) -> None:
    checkpoint = TrainingCheckpoint(
        os.path.join(directory, store.CHECKPOINTS), model, model.optimizer
    )
    progress = checkpoint.restore()
    if progress:
        _say(f"Resuming after {progress['step']} steps, in epoch {progress['epoch'] + 1}")
    progress = progress or {"step": 0, "epoch": 0, "batch": 0, "best": None, "waited": 0}
    batch_size = settings["batch_size"]
    per_epoch = math.ceil(len(train[0]) / batch_size)
    last_step = settings["steps"] or settings["epochs"] * per_epoch
    dev_set = batches(*dev, batch_size).cache()
    keeper = _Keeper(directory, checkpoint, progress, settings, per_epoch, last_step)
    summaries = Summaries(os.path.join(directory, store.LOGS))
    with _Interrupt() as keeper.interrupt:
        try:
            while progress["step"] < last_step and not keeper.out_of_patience:
                epoch, skip = progress["epoch"], progress["batch"]
                left = min(per_epoch - skip, last_step - progress["step"])
                epoch_set = batches(
                    *train, batch_size, seed=settings["seed"], epoch=epoch, skip=skip
                ).take(left)
                model.fit(
                    epoch_set,
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    validation_data=dev_set,
                    shuffle=False,
                    callbacks=[keeper, summaries],
                    verbose="auto" if sys.stdout.isatty() else 2,
                )
        except Stopped:
            _say(
                f"Stopped after {progress['step']} steps. Run the same command again to go on "
                "from here."
            )
            raise
    if keeper.out_of_patience:
        _say(f"Stopped early: no better dev loss in {progress['waited']} epochs")
    if settings["average"] > 1:
        _average(directory, checkpoint, progress, model, dev_set)


def _average(directory, checkpoint, progress, model, dev_set) -> None:
    """The mean of the last epochs' weights is the model from now on, if it is the better one."""
    paths = store.saved_weights(directory)
    if len(paths) < 2 or progress.get("averaged") == progress["step"]:
        return
    average_checkpoints(model, paths)
    loss = math.log(model.evaluate(dev_set, return_dict=True, verbose=0)["perplexity"])
    better = loss < _kept(progress)
    if better:
        store.save_model(directory, model)
    checkpoint.restore()  # the run goes on from its last step, not from the mean
    if better:
        progress["kept"] = loss
    progress["averaged"] = progress["step"]
    checkpoint.save(progress)
    _say(f"mean of the last {len(paths)} epochs: dev loss {loss:.4f}" + ", kept" * better)


def _kept(progress: dict) -> float:
    """The dev loss of the saved model."""
    return progress.get("kept", math.inf if progress["best"] is None else progress["best"])


class _Keeper(keras.callbacks.Callback):
    """Keeps the run's progress, its checkpoints and its best model."""

    def __init__(self, directory, checkpoint, progress, settings, per_epoch, last_step):
        super().__init__()
        self.directory, self.checkpoint = directory, checkpoint
        self.progress, self.settings = progress, settings
        self.per_epoch, self.last_step = per_epoch, last_step
        self.interrupt: Any = None

    @property
    def out_of_patience(self) -> bool:
        patience = self.settings["patience"]
        return bool(patience) and self.progress["waited"] >= patience

    @property
    def _epoch_is_over(self) -> bool:
        return self.progress["batch"] == self.per_epoch

    def on_train_batch_end(self, batch, logs=None):
        self.progress["step"] += 1
        self.progress["batch"] += 1
        if not math.isfinite(logs["loss"]):
            raise ValueError(
                f"The loss became {logs['loss']} at step {self.progress['step']}. The model and "
                "checkpoints saved before are intact. Try a lower --learning_rate in another "
                "--model_dir."
            )
        if self._epoch_is_over or self.progress["step"] == self.last_step:
            return  # `on_epoch_end` follows; resumed from here, it would never come
        if self.interrupt.came:
            self.checkpoint.save(self.progress)
            raise Stopped
        if self.progress["step"] % SAVE_EVERY == 0:
            self.checkpoint.save(self.progress)

    def on_epoch_end(self, epoch, logs=None):
        loss, best = math.log(logs["val_perplexity"]), self.progress["best"]
        if loss < _kept(self.progress):
            store.save_model(self.directory, self.model)
            self.progress.pop("kept", None)  # it is the best epoch's again
        if best is None or loss < best:
            self.progress.update(best=loss, waited=0)
        else:
            self.progress["waited"] += 1
            if not self.settings["warmup_steps"]:
                optimizer = self.model.optimizer
                optimizer.learning_rate = 0.5 * float(optimizer.learning_rate)
        if self.settings["average"] > 1:
            step, count = self.progress["step"], self.settings["average"]
            store.save_weights(self.directory, self.model, step, count)
        if self._epoch_is_over:
            self.progress.update(epoch=epoch + 1, batch=0)
        self.checkpoint.save(self.progress)
        _say(
            f"epoch {epoch + 1}, step {self.progress['step']} of at most {self.last_step}: "
            f"loss {logs['loss']:.4f}, perplexity {logs['perplexity']:.3f}; "
            f"dev loss {loss:.4f}, perplexity {logs['val_perplexity']:.3f}"
        )
        if self.interrupt.came:
            raise Stopped


class _Interrupt:
    """Ctrl-C (or SIGTERM) asks the run to stop after this step; a second one insists."""

    def __init__(self):
        self.came = False

    def __enter__(self):
        self._before = {
            number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _on(self, number, frame):
        if self.came:
            raise KeyboardInterrupt
        self.came = True
        print("\nStopping after this step ...", file=sys.stderr, flush=True)

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _show_replies(responder, pairs) -> None:
    samples = pairs.dev[:: max(1, len(pairs.dev) // 4)][:4]
    for (source, _), replies in zip(samples, responder.replies([s for s, _ in samples])):
        _say(f"  {source}\n    -> {replies[0]}")


def _say(line: str) -> None:
    print(line, flush=True)
