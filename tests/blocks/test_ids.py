"""Graphs in the wild name blocks by these ids: they must never change."""

import pytest

from agentflow.blocks import registry
from agentflow.errors import NotFound
from agentflow.graph.catalogue import BlockKind

IDS = {
    "AgentInput": "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b",
    "AgentShortTextInput": "7fcd3bcb-8e1b-4e69-903d-32d3d4a92158",
    "AgentLongTextInput": "90a56ffb-7024-4b2b-ab50-e26c5e5ab8ba",
    "AgentNumberInput": "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98",
    "AgentDropdownInput": "655d6fdf-a334-421c-b733-520549c07cd1",
    "AgentToggleInput": "cbf36ab5-df4a-43b6-8a7f-f7ed8652116e",
    "AgentOutput": "363ae599-353e-4804-937e-b2ee3cef3da4",
    "StoreValue": "1ff065e9-88e8-4358-9d82-8dc91f622ba9",
    "Note": "cc10ff7b-7753-4ff2-9af6-9399b1a7eddc",
    "UniversalTypeConverter": "95d1b990-ce13-4d88-9737-ba5c2070c97b",
    "Condition": "715696a0-e1da-45c8-b209-c2fa9c3b0be6",
    "IfInputMatches": "6dbbc4b3-ca6c-42b6-b508-da52d23e13f2",
    "Gather": "7d4f3a52-6f0c-4b8f-9d7e-5a2c1e9b0d34",  # ours
    "StepThroughItems": "f66a3543-28d3-4ab5-8945-9b336371e2ce",
    "CountItems": "3c9c2f42-b0c3-435f-ba35-05f7a25c772a",
    "Calculator": "b1ab9b19-67a6-406d-abf5-2dba76d00c79",
    "CreateDictionary": "b924ddf4-de4f-4b56-9a85-358930dcbc91",
    "AddToDictionary": "31d1064e-7446-4693-a7d4-65e5ca1180d1",
    "FindInDictionary": "0e50422c-6dee-4145-83d6-3a5a392f65de",
    "RemoveFromDictionary": "46afe2ea-c613-43f8-95ff-6692c3ef6876",
    "ReplaceDictionaryValue": "27e31876-18b6-44f3-ab97-f6226d8b3889",
    "DictionaryIsEmpty": "a3cf3f64-6bb9-4cc6-9900-608a0b3359b0",
    "CreateList": "a912d5c7-6e00-4542-b2a9-8034136930e4",
    "AddToList": "aeb08fc1-2fc1-4141-bc8e-f758f183a822",
    "FindInList": "5e2c6d0a-1e37-489f-b1d0-8e1812b23333",
    "GetListItem": "262ca24c-1025-43cf-a578-534e23234e97",
    "RemoveFromList": "d93c5a93-ac7e-41c1-ae5c-ef67e6e9b826",
    "ReplaceListItem": "fbf62922-bea1-4a3d-8bac-23587f810b38",
    "ListIsEmpty": "896ed73b-27d0-41be-813c-c1c1dc856c03",
    "ReverseListOrder": "422cb708-3109-4277-bfe3-bc2ae5812777",
    "FillTextTemplate": "db7d8f02-2f44-4c55-ab7a-eae0941f0c30",
    "CombineTexts": "e30a4d42-7b7d-4e6a-b36e-1f9b8e3b7d85",
    "TextSplit": "d5ea33c8-a575-477a-b42f-2fe3be5055ec",
    "TextReplace": "7e7c87ab-3469-4bcc-9abe-67705091b713",
    "WordCharacterCount": "ab2a782d-22cf-4587-8a70-55b59b3f9f90",
    "SendWebRequest": "6595ae1f-b924-42cb-9a41-551a0611c4b4",
    "AICondition": "553ec5b8-6c45-4299-8d75-b394d05f72ff",
    "AIConversation": "32a87eab-381e-4dd4-bdb8-4c47151be35a",
    "AIListGenerator": "9c0b0450-d199-458b-a731-072189dd6593",
    "AIStructuredResponseGenerator": "ed55ac19-356e-4243-a6cb-bc599e9b716f",
    "AITextGenerator": "1f292d4a-41a4-4977-9684-7c8d560b9f91",
    "AITextSummarizer": "a0a69be1-4528-491c-a85a-a4ab6873e3f0",
    "AgentDateInput": "7e198b09-4994-47db-8b4d-952d98241817",
    "AgentExecutor": "e189baac-8c20-45a1-94a7-55177ea42565",
    "AgentFileInput": "95ead23f-8283-4654-aef3-10c053b74a31",
    "AgentTableInput": "5603b273-f41e-4020-af7d-fbc9c6a8d928",
    "AgentTimeInput": "2a1c757e-86cf-4c7e-aacf-060dc382e434",
    "CodeExtraction": "d3a7d896-3b78-4f44-8b4b-48fbf4f0bcd8",
    "ConcatenateLists": "3cf9298b-5817-4141-9d80-7c2cc5199c8e",
    "CountdownTimer": "d67a9c52-5e4e-11e2-bcfd-0800200c9a71",
    "DataSampling": "4a448883-71fa-49cf-91cf-70d793bd7d87",
    "ExtractTextInformation": "3146e4fe-2cdd-4f29-bd12-0c9d5bb4deb0",
    "FileRead": "3735a31f-7e18-4aca-9e90-08a7120674bc",
    "FileStore": "cbb50872-625b-42f0-8203-a2ae78242d8a",
    "FlattenList": "cc45bb0f-d035-4756-96a7-fe3e36254b4d",
    "GenericWebhookTrigger": "8fa8c167-2002-47ce-aba8-97572fc5d387",
    "GetCurrentDate": "b29c1b50-5d0e-4d9f-8f9d-1b0e6fcbf0b1",
    "GetCurrentDateAndTime": "716a67b3-6760-42e7-86dc-18645c6e00fc",
    "GetCurrentTime": "a892b8d9-3e4e-4e9c-9c1e-75f8efcf1bfa",
    "HumanInTheLoop": "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d",
    "InterleaveLists": "9f616084-1d9f-4f8e-bc00-5b9d2a75cd75",
    "ListDifference": "05309873-9d61-447e-96b5-b804e2511829",
    "ListIntersection": "b6eb08b6-dbe3-411b-b9b4-2508cb311a1f",
    "MatchTextPattern": "3060088f-6ed9-4928-9ba7-9c92823a7ccd",
    "Orchestrator": "3b191d9f-356f-482d-8238-ba04b6d18381",
    "PersistInformation": "1d055e55-a2b9-4547-8311-907d05b0304d",
    "PrintToConsole": "f3b1c1b2-4c4f-4f0d-8d2f-4c4f0d8d2f4c",
    "ReadSpreadsheet": "acf7625e-d2cb-4941-bfeb-2819fc6fc015",
    "RetrieveInformation": "d8710fc9-6e29-481e-a7d5-165eb16f8471",
    "TextDecoder": "2570e8fe-8447-43ed-84c7-70d657923231",
    "TextEncoder": "5185f32e-4b65-4ecf-8fbb-873f003f09d6",
    "WaitForEvent": "b4c1f6f2-3a0e-4c57-9d52-0f7b6a8e2c91",
    "XMLParser": "286380af-9529-4b55-8be0-1d7c854abdb5",
    "ZipLists": "0d0e684f-5cb9-4c4b-b8d1-47a0860e0c07",
    "ExecuteCode": "0b02b072-abe7-11ef-8372-fb5d162dd712",
    "ExtractWebsiteContent": "436c3984-57fd-4b85-8e9a-459b356883bd",
    "GetWikipediaSummary": "f5b0f5d0-1862-4d61-94be-3ad0fa772760",
    "SearchTheWeb": "87840993-2053-44b7-8da4-187ad4ee518c",
    "SendAuthenticatedWebRequest": "fff86bcd-e001-4bad-a7f6-2eae4720c8dc",
    "ReadRSSFeed": "5ebe6768-8e5d-41e3-9134-1c7bd89a8d52",
    "SQLQuery": "4dc35c0f-4fd8-465e-9616-5a216f1ba2bc",
    "SendEmail": "4335878a-394e-4e67-adf2-919877ff49ae",
}

STATIC = {"StoreValue", "FileStore", "RetrieveInformation", "AgentOutput"} | {
    name for name in IDS if name.startswith("Agent") and name.endswith("Input")
}


SAYS_NOTHING_OF_ERRORS = {"AgentOutput", "AgentExecutor"} | {
    name for name in IDS if name.startswith("Agent") and name.endswith("Input")
}
"""As on the platform, where these declare no pin `error`; here links may leave them by it all the same."""


def test_the_blocks_and_their_ids_are_those_of_the_table() -> None:
    assert {block.name: block.id for block in registry.every()} == IDS


@pytest.mark.parametrize("name", IDS)
def test_a_block_is_found_by_its_id_and_by_its_name(name: str) -> None:
    assert registry.by_name(name) is registry.get(IDS[name])
    spec = registry.catalogue(IDS[name])
    assert spec is not None
    assert (spec.id, spec.name) == (IDS[name], name)


def test_unknown_blocks_are_not_found() -> None:
    assert registry.catalogue("no-such-block") is None
    with pytest.raises(NotFound, match="no-such-block"):
        registry.get("no-such-block")
    with pytest.raises(NotFound, match="NoSuchBlock"):
        registry.by_name("NoSuchBlock")


def test_exactly_these_blocks_have_static_outputs() -> None:
    assert {block.name for block in registry.every() if block.static_output} == STATIC


IO = {
    "SendWebRequest", "SendAuthenticatedWebRequest", "SearchTheWeb", "ExtractWebsiteContent", "GetWikipediaSummary",
    "ReadRSSFeed", "SendEmail", "SQLQuery",
}  # fmt: skip


def test_blocks_that_ask_a_server_have_a_lane_of_their_own() -> None:
    asks = {block.name for block in registry.every() if block.lane == "io"}
    assert asks == IO | {block.name for block in registry.every() if block.kind is BlockKind.AI}
    assert {block.name for block in registry.every() if block.lane == "cpu"} == {"ExecuteCode"}


@pytest.mark.parametrize("name", IDS)
def test_every_block_has_an_error_pin_and_can_be_described(name: str) -> None:
    block = type(registry.by_name(name))
    assert block.spec().outputs["error"].annotation is str
    info = block.info()
    assert set(info) == {
        "id", "name", "inputSchema", "outputSchema", "costs", "description",
        "categories", "contributors", "staticOutput", "uiType",
    }  # fmt: skip
    assert set(info["inputSchema"].get("properties", {})) == set(block.spec().inputs)
    declared = set(block.spec().outputs) - ({"error"} if name in SAYS_NOTHING_OF_ERRORS else set())
    assert set(info["outputSchema"]["properties"]) == declared
    assert info["description"]
    # Only what uses the operator's credential, or a model, has a price.
    paid = [pin for pin in block.spec().inputs.values() if "credentials_provider" in pin.schema]
    assert bool(info["costs"]) <= bool(paid)
    for cost in info["costs"]:
        assert cost["cost_filter"]["credentials"]["system"] is True
