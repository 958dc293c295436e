"""The flags of a server: see `serve`."""

from absl import flags

LOOPBACK = "127.0.0.1"


def define() -> None:
    """Where to listen, and how much one request may ask for."""
    flags.DEFINE_string(
        "host", LOOPBACK, "Where to listen; 0.0.0.0 is every interface, without any password."
    )
    flags.DEFINE_list(
        "allowed_hosts",
        [],
        "Names for which it may be asked (headers Host and Origin), beside localhost and, with "
        "another --host, addresses and this machine's name; *: any.",
    )
    flags.DEFINE_integer("port", 8501, "Where to listen; 0: a free one.", 0, 65535)
    flags.DEFINE_string("model_name", "chatbot", "The model's name in the requests.")
    flags.DEFINE_integer(
        "max_batch_size",
        32,
        "Lines that are answered at a time, of requests that arrive together; those of a longer "
        "request take turns with the others. 1 answers each line alone.",
        lower_bound=1,
        upper_bound=4096,
    )
    flags.DEFINE_integer("max_rows", 256, "Lines that a request may have.", 1, 1_000_000)
    flags.DEFINE_float(
        "time_limit", 30.0, "Seconds after which a request is given up.", 0.001, 86_400.0
    )
    flags.DEFINE_bool(
        "page",
        False,
        "Also a page to talk to the model, at /; extra [demo]. It is for --task, or for the model "
        "of --model_dir, if that is given: then a chat's reply is also drafted token by token.",
    )
