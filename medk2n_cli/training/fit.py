"""The training loop: one recipe for both sizes, resumable, averaged weights."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medk2n_cli.core.modality import Modality
from medk2n_cli.training import checkpoint, losses, sam2
from medk2n_cli.training.corrupt import KINDS, corrupt
from medk2n_cli.training.dataset import SLOTS, Batch, PackedStudy, RealStudies, SimulatedPool, collate
from medk2n_cli.training.network import MedK2N, Outputs
from medk2n_cli.training.recipe import Recipe
from medk2n_cli.training.refusal import Refusal
from medk2n_cli.training.simulate.heads import load_heads
from medk2n_cli.training.twins import MMSynthesis

REPORT_EVERY, SAVE_EVERY_S = 100, 180.0
OUTLIER_NORM = 50.0  # a usual step's gradient norm is 1 to 3


@dataclass(frozen=True)
class Sources:
    """Where samples come from: label maps (with a cache of prepared ones) and packed real studies."""

    label_maps: Path
    cache: Path
    studies: tuple[Path, ...] = ()


def fit(recipe: Recipe, sources: Sources, file: Path, resume: bool) -> Path:
    """Train as long as the recipe says and leave the checkpoint in `file`, curves beside it as JSON lines."""
    run = _Run(recipe, sources, file, resume)
    started = time.monotonic()
    saved = started
    while (done := run.done(elapsed := time.monotonic() - started)) < 1:
        run.step(done)
        if time.monotonic() - saved > SAVE_EVERY_S:
            run.save(elapsed)
            saved = time.monotonic()
    run.save(elapsed)
    return file


class _Run:
    def __init__(self, recipe: Recipe, sources: Sources, file: Path, resume: bool) -> None:
        self.recipe, self.file = recipe, file
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.before = checkpoint.Progress(recipe.size, 0, 0.0, ())
        tensors: dict[str, Tensor] = {}
        if resume:
            tensors, self.before = checkpoint.load(file)
            if self.before.size != recipe.size:  # the twin with average fusion has the same tensors
                raise Refusal(f"{file.name} holds a {self.before.size} network: go on with --size {self.before.size}")
        asked = recipe.encoder
        start = sam2.rebuild(self.before.encoder, asked) if resume else sam2.start(asked, recipe.size, recipe.encoder_weights)
        self.network = checkpoint.new_network(recipe.size, start)
        if resume:
            self.network.load_state_dict(checkpoint.part(tensors, "live"))
        self.network = self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and self._trains(name))
        learning = [n for n, p in self.network.named_parameters() if p.requires_grad]
        if unknown := [start for start in recipe.only if not any(n.startswith(start) for n in learning)]:
            raise Refusal(f"no parameter of the network starts with {', '.join(unknown)}")
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.rate, weight_decay=1e-4, betas=(0.9, 0.98), fused=True
        )
        averaged = checkpoint.part(tensors, "ema")
        self.average = {k: v.to(self.device) for k, v in averaged.items()} or {
            k: v.detach().clone() for k, v in self.network.state_dict().items()
        }
        if resume:
            checkpoint.restore_optimiser(self.optimiser, tensors)
        self.step_number = self.before.step
        self.rng = np.random.default_rng([recipe.seed, self.step_number])
        self.chance = torch.Generator().manual_seed(recipe.seed * 1000003 + self.step_number)
        self.heads = load_heads(sources.label_maps, sources.cache)
        self.studies = [PackedStudy.load(s) for s in sources.studies]
        self.sums: dict[str, float] = {}
        self._open(recipe.crop, recipe.pool)

    def _trains(self, name: str) -> bool:
        """Whether this run may change the parameter of that name."""
        return not self.recipe.only or name.startswith(self.recipe.only)

    def _open(self, crop: tuple[int, int], pool: int) -> None:
        self.crop = crop
        seed = self.recipe.seed * 7 + self.step_number
        self.pool = SimulatedPool(self.heads, crop, pool, seed, self.device)
        self.pool.refresh(max(16, self.recipe.batch * 2))
        self.real = RealStudies(self.studies, crop) if self.studies else None

    def done(self, elapsed: float) -> float:
        """The share of this run that is over after `elapsed` seconds."""
        recipe = self.recipe
        return (self.step_number - self.before.step) / recipe.steps if recipe.steps else elapsed / (recipe.minutes * 60)

    def step(self, done: float) -> None:
        """One optimiser step; `done` in [0, 1) is the share of this run that is over."""
        if done > 1 - self.recipe.whole_slices and self.crop != self.recipe.whole:
            self._open(self.recipe.whole, max(64, self.recipe.pool // 5))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate * _rate(done, self.step_number - self.before.step)
        clean = self._batch(done)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_half_pays(self.device)):
            terms = self._losses(clean)
        total = torch.stack(list(terms.values())).sum()
        norm = float("nan")
        if total.requires_grad:  # a single input, for one, says nothing of a gain
            total.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0))
        if norm < OUTLIER_NORM:  # false for NaN too
            self.optimiser.step()
            self._follow()
        self.step_number += 1
        self._report(terms, norm)

    def _batch(self, done: float) -> Batch:
        size = self.recipe.batch if self.crop == self.recipe.crop else max(2, self.recipe.batch // 4)
        use_real = self.real is not None and self.rng.random() < self.recipe.real_share
        if not use_real:
            self.pool.refresh(self.recipe.refresh if self.crop == self.recipe.crop else 1)
        samples = (self.real if use_real and self.real else self.pool).draw(size, self.rng)
        have, want = self._subset(self._structural(list(samples[0].slots)))
        return collate(samples, have, want, self.rng)

    def _structural(self, slots: list[int]) -> list[int]:
        """Half of the simulated batches leave diffusion out: most studies that lack a contrast hold none."""
        without = [s for s in slots if SLOTS[s] not in (Modality.DWI, Modality.ADC)]
        return without if len(without) > 1 and self.rng.random() < 0.5 else slots

    def _subset(self, slots: list[int]) -> tuple[list[int], list[int]]:
        """Curriculum: one to one, then several to one, then all proper subsets evenly."""
        slots = [int(s) for s in self.rng.permutation(slots)]
        step, warm = self.step_number, self.recipe.warm_steps
        if step < warm // 10:
            k = 1
        elif step < warm // 4:
            k = int(self.rng.integers(1, len(slots)))
        else:
            k = int(self.rng.choice(len(slots) - 1, p=_even_subsets(len(slots)))) + 1
        n = 1 if step < warm // 4 and k > 2 else int(self.rng.integers(1, min(2, len(slots) - k) + 1))
        return slots[:k], slots[k : k + n]

    def _losses(self, clean: Batch) -> dict[str, Tensor]:
        k = len(clean.have)
        batch, aux, kind = clean, int(self.rng.integers(k)), ""
        if k > 1 and self.rng.random() < self.recipe.corrupted:
            kind = str(self.rng.choice(KINDS))
            batch = replace(clean, images=corrupt(kind, clean.images, clean.strangers, aux, self.chance))
        batch = _to(batch, self.device)
        if isinstance(self.network, MMSynthesis):
            return self.network.losses(batch.images, batch.have, batch.want, batch.truth, batch.weight)
        return self._gated_losses(self.network, clean, batch, aux, kind)

    def _gated_losses(self, network: MedK2N, clean: Batch, batch: Batch, aux: int, kind: str) -> dict[str, Tensor]:
        """Input `aux` of `batch` is spoiled by `kind`; nothing is where `kind` is empty."""
        k, w = len(batch.have), self.recipe.weights
        key = self._key(network, batch, aux if kind else None)
        override = self._override(k, len(batch.want), aux, bool(kind))
        images = batch.images.contiguous()
        features = network.encode(images, batch.have)
        fusion = network.fuse_weights(images, features, batch.have, batch.want, key, override)
        auto = torch.full((len(batch.want),), -1, device=self.device)
        out = network.decode(images, features, batch.have, batch.want, key, fusion, auto)
        terms = losses.image_losses(out, batch, w)
        centre = clean.images[:, :, clean.images.shape[2] // 2].to(self.device)
        terms |= losses.identity_losses(network, out, batch, centre, w)
        if k == 1:
            terms |= losses.affinity_loss(network, out, batch, w)
        elif network.gated:
            gain = losses.measured_gain(network, out, losses.Encoded(batch, images, features, key), aux)
            terms |= losses.gate_losses(out, gain, aux, bool(kind), w)
            self._remember(network, gain, batch, aux, bool(kind), out)
        return terms

    def _key(self, network: MedK2N, batch: Batch, spoiled: int | None) -> Tensor:
        """The learned key frame, sometimes another, and never the spoiled input."""
        key = network.choose_key(batch.have, batch.want)
        k = len(batch.have)
        if self.rng.random() < 0.15:
            key = torch.from_numpy(self.rng.integers(k, size=len(batch.want))).to(key)
        if spoiled is not None:
            key = torch.where(key == spoiled, (key + 1) % k, key)
        return key

    def _override(self, k: int, n: int, aux: int, spoiled: bool) -> Tensor:
        """Clean gates are held open all through the warm-up and in half of the later steps; otherwise the gates decide.

        A spoiled input is nearly always shut out: its gain is measured without learning from it. Let in more often, it
        taught young networks to turn all auxiliaries down, good ones too.
        """
        override = torch.full((n, k), -1.0)
        warming = self.step_number < self.recipe.warm_steps
        if warming or self.rng.random() < 0.5:
            override[:] = 1.0
        if spoiled:
            override[:, aux] = float(not warming and self.rng.random() < 0.1)
        elif not warming and self.rng.random() < 0.15:
            override[:, aux] = 0.0
        return override.to(self.device)

    def _remember(self, network: MedK2N, gain: Tensor, batch: Batch, aux: int, spoiled: bool, out: Outputs) -> None:
        """The mean gain of clean pairs (p_ij) and the gate rates, watched per pair."""
        source = int(batch.have[aux])
        for n, target in enumerate(batch.want.tolist()):
            if float(out.fusion.key[n, aux]) > 0:
                continue
            if not spoiled and not self.recipe.only:
                cell = network.past_gain[source, target]
                network.past_gain[source, target] = cell + 0.01 * (gain[:, n].mean() - cell)
            would = (out.fusion.w_global[:, n, aux] >= out.fusion.threshold[:, n, aux]).float().mean()
            name = f"open {'spoiled' if spoiled else 'clean'} {SLOTS[source].value}>{SLOTS[target].value}"
            self._count(name, float(would))

    def _count(self, name: str, value: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.sums["#" + name] = self.sums.get("#" + name, 0.0) + 1

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential moving average of the weights, faster while young."""
        decay = min(self.recipe.average, (1 + self.step_number) / (10 + self.step_number))
        live = self.network.state_dict()
        floating = [k for k, v in live.items() if v.is_floating_point() and self._trains(k)]
        torch._foreach_lerp_([self.average[k] for k in floating], [live[k] for k in floating], 1 - decay)

    def _report(self, terms: dict[str, Tensor], norm: float) -> None:
        for name, value in terms.items():
            self._count(name, float(value.detach()))
        if not math.isnan(norm):
            self._count("norm", norm)
        if self.step_number % REPORT_EVERY:
            return
        means = {k: v / self.sums["#" + k] for k, v in self.sums.items() if not k.startswith("#")}
        line = {"step": self.step_number, "rate": self.optimiser.param_groups[0]["lr"], "crop": self.crop[0]}
        curves = self.file.with_suffix(".curves.jsonl")
        with curves.open("a") as out:
            out.write(json.dumps(line | {k: round(v, 5) for k, v in means.items()}) + "\n")
        self.sums.clear()

    def save(self, elapsed: float) -> None:
        """Write the checkpoint: averaged weights, live weights, optimiser."""
        live = {f"live.{k}": v for k, v in self.network.state_dict().items()}
        used = sorted(s.name for s in self.studies)
        this = {
            "steps": self.step_number - self.before.step,
            "seconds": round(elapsed),
            "rate": self.recipe.rate,
            "heads": [h.name for h in self.heads],
            "studies": used,
            "seed": self.recipe.seed,
            "device": self.device.type,
            "batch": self.recipe.batch,
            **({"only": ",".join(self.recipe.only)} if self.recipe.only else {}),
            **({"spoiled": self.recipe.corrupted} if self.recipe.corrupted != Recipe.corrupted else {}),
        }
        progress = checkpoint.Progress(
            self.recipe.size,
            self.step_number,
            self.before.seconds + elapsed,
            (*self.before.history, this),
            sam2.describe(self.network),
        )
        checkpoint.save(self.file, self.average, live | checkpoint.optimiser_tensors(self.optimiser), progress)


def _half_pays(device: torch.device) -> bool:
    """Convolutions in bfloat16: twice as fast on GPUs and on CPUs with instructions for it."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


def _rate(done: float, steps: int) -> float:
    """Warm-up over 100 steps, level until half of the run, then a cosine to 2 %."""
    warm = min(1.0, (steps + 1) / 100)
    fall = max(0.0, (done - 0.5) / 0.5)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


def _even_subsets(count: int) -> list[float]:
    """Probability of K = 1 .. count - 1 when all proper subsets are equally likely."""
    ways = [math.comb(count, k) for k in range(1, count)]
    return [w / sum(ways) for w in ways]


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(getattr(batch, f.name).to(device) for f in fields(batch)))
