"""The public conformance suite: what we ask of our own environments, agents, mechanisms and scenarios, and of yours.

    from gridmarl.testing import check_agent, check_environment, check_mechanism, check_scenario

Each check raises `ConformanceError` that names the check, the place and what was seen. In a test of your package:

    def test_my_auction():
        check_mechanism(my_auction)

    def test_my_environment():
        check_environment(lambda num_envs, first_lane: MyEnv(num_envs=num_envs, first_lane=first_lane))

    def test_my_agent():
        check_agent(MyAgent, make_batched("two-stage-dr", {}, num_envs=4))

    def test_my_scenario():
        check_scenario(my_village)
"""

from gridmarl.testing.agent import check_agent
from gridmarl.testing.environment import check_environment
from gridmarl.testing.errors import ConformanceError
from gridmarl.testing.mechanism import check_mechanism
from gridmarl.testing.scenario import check_scenario

__all__ = ["ConformanceError", "check_agent", "check_environment", "check_mechanism", "check_scenario"]
