"""The charging-quota contract on an Ethereum virtual machine: Vyper sources, a chain in the process, rounds on it.

Needs the extra `evm` (vyper, eth-tester with py-evm, web3), which is imported when a contract is built or a chain
started, never before. Rules: docs/quota-rules.md, "Contract"; what differs on a chain: docs/evm.md.
"""
