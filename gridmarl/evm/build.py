"""Compiling the contracts that ship, in `contracts/`, with Vyper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gridmarl.errors import MissingExtraError

CONTRACTS = Path(__file__).with_name("contracts")
NEEDS_EXTRA = "contracts on an EVM need vyper, eth-tester, py-evm and web3: pip install 'gridmarl[evm]'"


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    Attributes:
        name: its source file, without the ending.
        abi: what it can be called with, as JSON's lists and dicts.
        bytecode: hex text of the code that deploys it.
        runtime_bytes: size of the deployed code; chains allow 24,576.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    runtime_bytes: int


@cache
def build(name: str, folder: Path = CONTRACTS) -> Artifact:
    """Compile `folder/name.vy`; a file that it imports is looked for in the same folder, then among those that ship.

    Raises:
        MissingExtraError: vyper is not installed.
    """
    try:
        from vyper import compile_from_file_input
        from vyper.compiler.input_bundle import FilesystemInputBundle
    except ImportError as error:
        raise MissingExtraError(NEEDS_EXTRA) from error
    bundle = FilesystemInputBundle([CONTRACTS, folder])  # the last one is searched first
    source = bundle.load_file(f"{name}.vy")
    formats = ["abi", "bytecode", "bytecode_runtime"]
    output = compile_from_file_input(source, input_bundle=bundle, output_formats=formats)
    size = (len(output["bytecode_runtime"]) - len("0x")) // 2
    return Artifact(name, output["abi"], output["bytecode"], size)
