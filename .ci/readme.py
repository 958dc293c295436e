"""Run the README's first blocks in a new folder, with a Python that has nothing but the wheel.

    python -I .ci/readme.py README.md

The training of the first block is cut short: a few steps of a small model.
"""

import os
import re
import subprocess
import sys
import tempfile

SHORT = "--steps=20 --units=32"


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(*command, folder, check=True):
    """-> what it printed; without PYTHONPATH, which could lead to the checkout."""
    print("$", " ".join(command).split("\n")[0], flush=True)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + env["PATH"]
    ran = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
    if check and ran.returncode:
        sys.exit(f"{ran.stdout}\nExit code {ran.returncode}.")
    return ran.stdout


def main(readme):
    with open(readme, encoding="utf-8") as file:
        text = file.read()
    _, _, *commands = blocks(text, "bash")[0].splitlines()  # after: make an environment, install
    assert len(commands) == 2, commands
    with tempfile.TemporaryDirectory() as folder:
        for command in commands:
            short = f"{command} {SHORT}" if "--mode=train" in command else command
            print(run("bash", "-euo", "pipefail", "-c", short, folder=folder)[-300:])
        for code in blocks(text, "python"):
            run(sys.executable, "-c", code, folder=folder)
        for program in (("python", "-m", "apps.chatbot"), ("keras-attention-chatbot",)):
            assert "--model_dir" in run(*program, "--helpfull", folder=folder, check=False)
        where = "import keras_attention, models, apps; print(keras_attention, models, apps)"
        assert run(sys.executable, "-c", where, folder=folder).count("site-packages") == 3
    print("The README's blocks run with the wheel alone.")


if __name__ == "__main__":
    main(*sys.argv[1:])
