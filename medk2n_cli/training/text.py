"""What each contrast looks like, in a radiologist's words, and the sentence embeddings of those words.

The vectors in ``text_vectors.safetensors`` are embeddings of `DESCRIPTIONS` by all-MiniLM-L6-v2 (Apache-2.0),
mean over tokens. `embed` makes them again from a local copy of that model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from medk2n_cli.core.modality import Modality

DESCRIPTIONS: dict[Modality, str] = {
    Modality.T1: "T1-weighted brain MRI without contrast agent: cerebrospinal fluid dark, white matter brighter than "
    "grey matter, fat bright, vessels and lesions not enhanced.",
    Modality.T1C: "T1-weighted brain MRI after gadolinium contrast agent: cerebrospinal fluid dark, white matter brighter "
    "than grey matter, vessels, mucosa and lesions with a broken blood-brain barrier strongly enhanced.",
    Modality.T2: "T2-weighted brain MRI: cerebrospinal fluid very bright, grey matter brighter than white matter, oedema bright.",
    Modality.FLAIR: "Fluid-attenuated inversion recovery brain MRI: cerebrospinal fluid suppressed to black, grey matter "
    "slightly brighter than white matter, white matter lesions and oedema bright.",
    Modality.DWI: "Diffusion-weighted brain MRI with b = 1000 s/mm2: cerebrospinal fluid dark, acute stroke very bright, "
    "low resolution.",
    Modality.ADC: "Map of the apparent diffusion coefficient of the brain: cerebrospinal fluid bright, tissue uniformly grey, "
    "acute stroke dark.",
}


def text_vectors() -> Tensor:
    """(M, 384) stored embeddings, in slot order."""
    stored = load_file(Path(__file__).with_name("text_vectors.safetensors"))
    return torch.stack([stored[m.value] for m in Modality])


def embed(model_folder: Path) -> dict[str, Tensor]:
    """Embeddings of `DESCRIPTIONS` by the sentence model in `model_folder` (needs transformers)."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModel.from_pretrained(model_folder).eval()
    vectors = {}
    with torch.no_grad():
        for modality, words in DESCRIPTIONS.items():
            vectors[modality.value] = model(**tokenizer(words, return_tensors="pt")).last_hidden_state[0].mean(0)
    return vectors
