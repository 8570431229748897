"""Makes tests/data/tiny.onnx and its card: python -m tests.make_tiny (needs the train extra)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import torch

from medk2n_cli.training import checkpoint, network
from medk2n_cli.training.export import Measured, export
from medk2n_cli.training.network import Size

TINY = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)


def main() -> None:
    with mock.patch.dict(network.SIZES, {"small": TINY}), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(3)
        net = checkpoint.new_network("small")
        with torch.no_grad():
            net.affinity.copy_(torch.rand(6, 6))
            net.preweight.weight[2].weight.mul_(8)  # spread the gates, so that some close
            for head in net.taskhead.out:
                head.weight.mul_(20)  # spread the images, so that a difference shows
        file = Path(folder) / "tiny.safetensors"
        checkpoint.save(file, net.state_dict(), {}, checkpoint.Progress("small", 0, 0.0, ()))
        card = export(file, Path(__file__).with_name("data") / "tiny.onnx", Measured({}, {}))
        print(card.sha256, sum(card.parameters.values()))


if __name__ == "__main__":
    main()
