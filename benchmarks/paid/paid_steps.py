"""Defines the step of a benchmark that costs a credit; workers find it by an entry point, like anybody's block."""

from agentflow.blocks.data.numbers import Calculator


class PaidCalculator(Calculator):
    id = "be9c0000-0000-4000-8000-000000000001"
    name = "PaidCalculator"
    description = "Calculates, and costs a credit."
    cost = 1
    vectors = ()
