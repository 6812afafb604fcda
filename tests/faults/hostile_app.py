"""A copy of the app whose clients lie where their node config says so."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIES = ("nan", "garbage", "wrong-parts", "oversized", "absurd")
# What would fill a server or hold it up.
BURDENS = ("trickle", "stall", "large")

# Put beside the client app; the file that the node config names says how to lie from now on.
CODE = '''"""The honest client app, whose training replies are spoilt on their way out."""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.clientapp import ClientApp
from flwr.supernode.runtime import run_clientapp

from client_app.app import app as honest


def nan(arrays):
    return {k: Array(np.nan * v.numpy()) if k.endswith("floats") else v for k, v in arrays.items()}


def garbage(arrays):
    data = b"\\x80\\x04pickled?" * 99
    return {k: Array(v.dtype, v.shape, v.stype, data) for k, v in arrays.items()}


def wrong_parts(arrays):
    return {f"other/{k}": v for k, v in arrays.items()}


def oversized(arrays):
    return {k: Array(np.zeros(16 << 20, np.float32)) for k in arrays}


def absurd(arrays):
    return {k: Array(1e6 * v.numpy()) if k.endswith("floats") else v for k, v in arrays.items()}


def large(arrays):
    rng = np.random.default_rng(1)
    return {str(i): Array(rng.random(1 << 24, np.float32)) for i in range(4)}


def slowly(seconds):
    """Send the objects of a reply one by one, each after some seconds."""
    push = run_clientapp.push_objects

    def pushing(objects, push_object_fn, object_ids_to_push):
        for object_id in object_ids_to_push:
            time.sleep(seconds)
            push(objects, push_object_fn, object_ids_to_push={object_id})

    run_clientapp.push_objects = pushing


def trickle(arrays):
    slowly(20)
    return arrays


def stall(arrays):
    slowly(600)
    return arrays


class Hostile(ClientApp):
    def __call__(self, message, context):
        reply = honest(message, context)
        path = context.node_config.get("lies")
        lie = Path(path).read_text() if path else ""
        if lie and message.metadata.message_type in ("train", "train.dual") and reply.has_content():
            arrays = dict(reply.content["arrays"])
            reply.content["arrays"] = ArrayRecord(globals()[lie.replace("-", "_")](arrays))
        return reply


app = Hostile()
'''


def write_hostile_app(folder):
    """Copy the app; nodes whose config has ``lies``, the path of a file, lie as the file says."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("feddag_flwr", "client_app", "server_app"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    text = (ROOT / "pyproject.toml").read_text()
    changed = text.replace('"client_app.app:app"', '"client_app.hostile:app"')
    assert changed != text
    (folder / "pyproject.toml").write_text(changed)
    (folder / "client_app" / "hostile.py").write_text(CODE)
    return folder
