"""A network of its own for a node, on a cable that can be cut (Linux, as root)."""

import os
import subprocess
from contextlib import contextmanager


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Cable:
    """A pair of virtual network cards: one in this machine, one in a namespace of its own.

    Attributes
    ----------
    host : str
        Address of this machine as seen from the namespace.
    through : list of str
        Words before a command that shall run inside.
    """

    def __init__(self):
        number = os.getpid() % 250
        self._name, self._card, self._inner = f"feddag{number}", f"fdh{number}", f"fdn{number}"
        self.host, self._node = f"10.213.{number}.1", f"10.213.{number}.2"
        self.through = ["ip", "netns", "exec", self._name]

    def lay(self):
        ip("netns", "add", self._name)
        peer = ["peer", "name", self._inner, "netns", self._name]
        ip("link", "add", self._card, "type", "veth", *peer)
        ip("addr", "add", f"{self.host}/30", "dev", self._card)
        ip("link", "set", self._card, "up")
        inside = ("-n", self._name)
        ip(*inside, "addr", "add", f"{self._node}/30", "dev", self._inner)
        ip(*inside, "link", "set", self._inner, "up")
        ip(*inside, "link", "set", "lo", "up")

    def cut(self):
        """Take the card down: packets go nowhere, and nobody is told."""
        ip("link", "set", self._card, "down")

    def mend(self):
        ip("link", "set", self._card, "up")

    def remove(self):
        for words in (("netns", "del", self._name), ("link", "del", self._card)):
            subprocess.run(["ip", *words], check=False, capture_output=True)


@contextmanager
def laid_cable():
    """A cable, or None where this machine does not let us have one."""
    cable = Cable()
    try:
        try:
            cable.lay()
        except (OSError, subprocess.CalledProcessError):
            yield None
        else:
            yield cable
    finally:
        cable.remove()
