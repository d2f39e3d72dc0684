"""What is done once each whole minute of the emulated clock."""

from datetime import datetime

from controller.emulator.clock import Action, Clock
from controller.emulator.monitoring.minutes import minute_end


def every_minute(clock: Clock, action: Action) -> None:
    """Run the action at each whole minute from now on."""

    def act(when: datetime) -> None:
        action(when)
        arm(when)

    def arm(now: datetime) -> None:
        following = minute_end(now.timestamp() + 1e-6)
        clock.at(datetime.fromtimestamp(following, now.tzinfo), act)

    arm(clock.now())
