"""Package metadata of t2tjax; version ranges are the tested ones."""

import setuptools

_ROOT_PACKAGES = {
  "t2tjax.gin_configs": "gin_configs",
  "t2tjax.tasks": "tasks",
  "t2tjax.tasks.t5": "tasks/t5",
}

setuptools.setup(
  name="t2tjax",
  version="0.1.0",
  description="A JAX/Flax framework to train text-to-text models.",
  license="Apache-2.0",
  python_requires=">=3.11,<3.13",
  packages=[
    *setuptools.find_packages(include=["t2tjax", "t2tjax.*"]),
    *_ROOT_PACKAGES,
  ],
  package_dir=_ROOT_PACKAGES,
  package_data={
    "t2tjax.evaluation": ["page.html"],
    "t2tjax.gin_configs": ["**/*.gin"],
    "t2tjax.serving": ["page.html"],
    "t2tjax.tasks": ["bundle/*"],
  },
  install_requires=[
    "absl-py",
    # jax.export needs it and jax does not say so.
    "flatbuffers>=24",
    "flax>=0.12.8,<0.13",
    "fsspec>=2024.6",
    "gin-config>=0.5.0,<0.6",
    "grain>=0.2.18,<0.3",
    # tensorflow-datasets needs it and does not say so.
    "importlib_resources",
    "jax>=0.10.2,<0.11.1",
    "matplotlib>=3.10",
    "msgpack>=1.0",
    "numpy>=2.0",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "rich>=14",
    "rouge-score>=0.1.2",
    "sacrebleu>=2.5",
    "safetensors>=0.8",
    "scikit-learn>=1.6",
    "scipy>=1.13",
    "sentencepiece>=0.2.1",
    "seqio>=0.0.20,<0.1",
    "tensorboard>=2.20",
    "tensorboardX>=2.6.4",
    "tensorflow>=2.20,<2.22",
    "tensorflow-datasets>=4.9.9",
    "tensorstore>=0.1.70",
  ],
  extras_require={
    "beam": ["apache-beam>=2.60"],
    "cuda": ["jax[cuda12]>=0.10.2,<0.11.1"],
    "demo": ["starlette>=0.40", "uvicorn>=0.30"],
    "hf": ["torch>=2.4", "transformers>=4.57"],
    "sweep": ["optuna>=4.0"],
    "test": [
      "codespell",
      "httpx2",
      "mypy",
      "pytest>=8",
      "pytest-xdist",
      "ruff",
      "starlette>=0.40",
      "uvicorn>=0.30",
    ],
    "tpu": ["jax[tpu]>=0.10.2,<0.11.1"],
  },
)
