"""google.cloud.location.Locations: where services can be."""

from google.cloud.location import locations_pb2

from controller.emulator.calls import Call, Method, Methods
from controller.emulator.run.services import Services
from controller.emulator.settings import Settings


class LocationsApi:
    """Names the region of the settings, and every other one that has a service."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._services = services

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        method = Method(
            self._list,
            locations_pb2.ListLocationsRequest.FromString,
            locations_pb2.ListLocationsResponse.SerializeToString,
        )
        return {"google.cloud.location.Locations": {"ListLocations": method}}

    def _list(
        self, _: Call, request: locations_pb2.ListLocationsRequest
    ) -> locations_pb2.ListLocationsResponse:
        regions = {self._settings.region, *(state.region for state in self._services.all())}
        locations = [
            locations_pb2.Location(
                name=f"{request.name}/locations/{region}",
                location_id=region,
                display_name=f"{region} (local)",
            )
            for region in sorted(regions)
        ]
        return locations_pb2.ListLocationsResponse(locations=locations)
