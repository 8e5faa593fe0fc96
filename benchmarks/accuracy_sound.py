"""Voices for `accuracy.py`, and the network that hears them.

A voice is made as text-books have it: pulses of a gliding pitch through three resonances per vowel, hiss for
consonants, syllables with pauses between them; beside noise, hum, clicks and music-like chords.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy_networks import Measure, Network, Samples, Wheels
from accuracy_scores import Array, correlation, decisions
from scipy.signal import lfilter

RATE = 16000
STEP, CONTEXT, STEPS = 512, 64, 64
CLIPS, TEST_CLIPS = 16, 24
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""Three resonances in Hz of each of five vowels (Peterson and Barney, 1952)."""

Rng = np.random.Generator


def resonant(signal: Array, hertz: float, width: float) -> Array:
    """Return a signal through one resonance."""
    radius = np.exp(-np.pi * width / RATE)
    angle = 2 * np.pi * hertz / RATE
    return np.asarray(lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], signal))


def syllable(rng: Rng, pitch: float) -> Array:
    """Return hiss and a vowel, 0.15 … 0.35 s."""
    count = int(rng.uniform(0.1, 0.27) * RATE)
    glide = pitch * np.linspace(rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1), count)
    phase = np.cumsum(glide / RATE) + 0.02 * np.cumsum(rng.normal(0, 0.02, count))
    pulses = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.normal(size=count)
    for hertz, width in zip(VOWELS[rng.integers(len(VOWELS))], (80, 100, 120), strict=True):
        pulses = resonant(pulses, hertz * rng.uniform(0.92, 1.08), width)
    hiss = np.diff(rng.normal(size=int(rng.uniform(0.03, 0.09) * RATE)), prepend=0.0)
    voiced = pulses * np.hanning(count) ** 0.5
    return np.concatenate([0.08 * hiss * np.hanning(len(hiss)), voiced / np.abs(voiced).max()])


def voice(rng: Rng, count: int) -> Array:
    """Return syllables with pauses between words."""
    parts, pitch = [], rng.uniform(90, 230)
    while sum(map(len, parts)) < count:
        parts += [syllable(rng, pitch) for _ in range(rng.integers(1, 5))]
        parts.append(np.zeros(int(rng.uniform(0.05, 0.6) * RATE)))
    return np.concatenate(parts)[:count] * rng.uniform(0.1, 0.6)


def disturbance(rng: Rng, count: int) -> Array:
    """Return noise, hum, a chord or clicks."""
    time = np.arange(count) / RATE
    kind = rng.integers(4)
    if kind == 0:
        return np.asarray(lfilter([1], [1, -rng.uniform(0, 0.95)], rng.normal(0, 0.05, count)))
    if kind == 1:
        return 0.1 * sum(np.sin(2 * np.pi * 50 * h * time) / h for h in (1, 2, 3, 5))
    if kind == 2:
        root = rng.uniform(150, 400)
        return 0.1 * sum(np.sin(2 * np.pi * root * r * time) for r in (1, 1.25, 1.5))
    return np.where(rng.random(count) < 2e-4, rng.uniform(-0.8, 0.8), 0.0)


def clip(rng: Rng) -> Array:
    """Return 64 windows of 576 samples of one clip, float32: 64 of the last window, then 512."""
    count = STEP * STEPS
    start = int(rng.integers(0, count // 2))
    heard = 0.2 * rng.random() * disturbance(rng, count) + rng.normal(0, 1e-3, count)
    heard[start:] += voice(rng, count - start)
    padded = np.concatenate([np.zeros(CONTEXT), heard]).astype(np.float32)
    return np.stack([padded[n * STEP : n * STEP + CONTEXT + STEP] for n in range(STEPS)])


def clips(_wheels: Wheels, test: bool) -> Samples:
    """Return clips of two seconds; the state of the network starts at 0."""
    rng = np.random.default_rng(42 if test else 41)
    zero = np.zeros((1, 1, 128), np.float32)
    return Samples([{"input": clip(rng), "h": zero, "c": zero} for _ in range(TEST_CLIPS if test else CLIPS)])


def read_speech(outputs: list[Array], _model: Path) -> Array:
    """Return the probability of speech in every window."""
    return outputs[0].ravel()


SPEECH = (
    Measure("correlation of scores", "float", correlation),
    Measure("decisions as float", "float", decisions),
)

NETWORKS = (
    Network(
        "Silero VAD",
        "silero-vad",
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        {"input": (STEPS, CONTEXT + STEP)},
        clips,
        read_speech,
        SPEECH,
    ),
)
