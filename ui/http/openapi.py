"""The OpenAPI description of the HTTP API: what each path accepts, and what it answers, for the models it serves.

https://spec.openapis.org/oas/v3.1.0. The options of generation and the inputs of the tasks describe themselves, so a
new task or option needs no change here.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...core.generation.generation_config import GenerationConfig
from ...core.options import options_of
from .access import PUBLIC_PATHS, Access
from .limits import Limits
from .option_schemas import combinations, option_schemas
from .request_bodies import FORMATS, INPUT_NAMES, PROMPT_NAMES, request_options
from .rerank import IGNORED, RETURN_NAMES, TEXT_NAMES

if TYPE_CHECKING:
    from ...tasks.data.examples import Field
    from ..model_registry import Entry, ModelRegistry

Schema = dict[str, Any]

DESCRIPTION = "BERT and GPT-2 models over HTTP. An error is {error: {message, type, param, code}}."
STATUSES = {
    401: "The API key is missing or wrong.",
    403: "The Host header names another machine, or the request was sent by a page of another site.",
    404: "The model does not exist.",
    408: "The body did not arrive in time.",
    413: "The body exceeds the server's limit.",
    415: "The body is not JSON, or is compressed by another method than gzip.",
    422: "The body is not valid; the message says where and what to do.",
    429: "The queue is full; try again after the number of seconds in Retry-After.",
    500: "An error of the server, which its log describes.",
    503: "There was no answer in time, or the server is stopping.",
}
POST_STATUSES = (404, 408, 413, 415, 422, 429, 500, 503)

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
FLAG: Schema = {"type": "boolean"}
LABELLED: Schema = {"type": "object", "minProperties": 1}


def describe(
    routes: Iterable[Any], registry: "ModelRegistry", limits: Limits, access: Access, *, prompts: Sequence[str] = ()
) -> Schema:
    """The description of a server with its present models.

    Args:
        routes: of the application; their functions' docstrings describe them.
        registry: the models.
        limits: of the server.
        access: who may use it.
        prompts: the names of the saved prompts.
    """
    bodies = {
        "/predict": predict_body(registry, limits),
        "/embed": embed_body(registry, limits),
        "/v1/embeddings": embeddings_body(registry, limits),
        "/rerank": rerank_body(registry, limits),
        "/zero-shot-classification": zero_shot_body(registry, limits),
        "/prompt": prompt_body(prompts, limits),
        "/generate": generate_body(registry, limits),
    }
    paths: dict[str, Schema] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        if path not in ANSWERS:
            continue
        method = "post" if path in bodies else "get"
        summary, _, rest = route.description.partition("\n")
        operation: Schema = {"operationId": route.name, "summary": summary, "description": f"{summary} {rest}".strip()}
        if path in bodies:
            operation["requestBody"] = bodies[path]
        if "{name}" in path:
            operation["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": TEXT}]
        if access.key is not None:
            operation["security"] = [] if path in PUBLIC_PATHS else [{"key": []}]
        operation["responses"] = _responses(path, posts=method == "post", access=access)
        paths[path] = {method: operation}
    components = {} if access.key is None else {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headway", "description": DESCRIPTION, "version": version("headway")},
        "paths": paths,
        "components": components,
    }


# Answers.


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


ERROR = _object(error=_object(message=TEXT, type=TEXT, param={"type": ["string", "null"]}, code={"type": "null"}))
MODEL = _object(id=TEXT, object={"const": "model"}, created=INTEGER, owned_by=TEXT)
VECTOR = {"anyOf": [_list(NUMBER), {**TEXT, "contentEncoding": "base64", "description": "float32, little-endian"}]}
GENERATED = _object(text=TEXT, token_ids=_list(INTEGER), score={"type": ["number", "null"]}, finish_reason=TEXT)
INFO = _object(models=_list({"type": "object"}), tasks={"type": "object"}, limits={"type": "object"}, device=TEXT)
USAGE = _object(prompt_tokens=INTEGER, total_tokens=INTEGER)
LENGTH = {"num_tokens": INTEGER, "truncated": FLAG}
RULES = {  # the fields of the decision rules that a model has
    "abstained": {**FLAG, "description": "Whether the confidence is below the one from which the model answers."},
    "label_set": {**_list(TEXT), "description": "The conformal prediction set, the most probable label first."},
    "none_of_these": {**FLAG, "description": "Whether the text is too far from all training texts for any label."},
}
PREDICTION = {**_object(**LENGTH), "description": "With the fields of the task."}
PREDICTION["properties"] = {**PREDICTION["properties"], **RULES}
PROMPTED = {**_object(dropped_examples=INTEGER, truncated=FLAG), "description": "With label or labels, or text."}
EMBEDDING = _object(object={"const": "embedding"}, index=INTEGER, embedding=VECTOR, **LENGTH)
RANKED = {**_object(index=INTEGER, score=NUMBER, **LENGTH), "description": "With texts; text, if return_text is true."}
RELEVANT = {
    **_object(index=INTEGER, relevance_score=NUMBER, **LENGTH),
    "description": "With documents; document, if return_documents is true.",
}
ANSWERS: dict[str, dict[str, Schema]] = {  # the content of a successful response by media type
    "/predict": {"application/json": _object(model=TEXT, task=TEXT, predictions=_list(PREDICTION))},
    "/embed": {
        "application/json": _object(
            model=TEXT,
            size=INTEGER,
            vectors=_list(_list(NUMBER)),
            **{name: _list(schema) for name, schema in LENGTH.items()},
        )
    },
    "/v1/embeddings": {
        "application/json": _object(object={"const": "list"}, model=TEXT, data=_list(EMBEDDING), usage=USAGE)
    },
    "/zero-shot-classification": {"application/json": _object(model=TEXT, task=TEXT, predictions=_list(PREDICTION))},
    "/prompt": {"application/json": _object(model=TEXT, predictions=_list(PROMPTED))},
    "/rerank": {"application/json": {"anyOf": [_list(RANKED), _object(model=TEXT, results=_list(RELEVANT))]}},
    "/generate": {
        "application/json": _object(model=TEXT, prompt=TEXT, truncated=FLAG, texts=_list(GENERATED)),
        "text/event-stream": _object(data=TEXT),
    },
    "/health": {"application/json": _object(status=TEXT)},
    "/info": {"application/json": INFO},
    "/v1/models": {"application/json": _object(object={"const": "list"}, data=_list(MODEL))},
    "/v1/models/{name}": {"application/json": MODEL},
    "/metrics": {"text/plain": TEXT},
}


def _responses(path: str, *, posts: bool, access: Access) -> Schema:
    content = {kind: {"schema": schema} for kind, schema in ANSWERS[path].items()}
    responses: Schema = {"200": {"description": "The answer.", "content": content}}
    statuses = {500, *(POST_STATUSES if posts else ()), *((404,) if "{name}" in path else ())}
    statuses |= {401} if access.key is not None and path not in PUBLIC_PATHS else set()
    statuses |= {403} if access.hosts else set()
    for status in sorted(statuses):
        responses[str(status)] = {
            "description": STATUSES[status],
            "content": {"application/json": {"schema": ERROR}},
        }
        if status in (429, 503):
            responses[str(status)]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": INTEGER}}
    if path == "/health":
        responses["503"] = {"description": "The server is stopping.", "content": content}
    return responses


# Bodies.


def _body(schema: Schema, example: Mapping[str, Any]) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _fields(properties: Mapping[str, Any], names: Sequence[str], *, required: bool) -> Schema:
    """An object whose field of many names is given at most once.

    Args:
        properties: the fields, without the aliases.
        names: of the field: the documented one, and its aliases.
        required: whether the field must be given.
    """
    first, *aliases = names
    named = {name: {**properties[first], "description": f"Another name of {first}."} for name in aliases}
    schema: Schema = {"type": "object", "properties": {**properties, **named}, "additionalProperties": False}
    if required:
        schema["oneOf"] = [{"required": [name]} for name in names]
    else:
        schema["allOf"] = [_at_most_one(names)]
    return schema


def _at_most_one(names: Sequence[str]) -> Schema:
    return {"anyOf": [{"properties": {other: False for other in names if other != one}} for one in names]}


def _model(registry: "ModelRegistry", entries: Sequence["Entry"]) -> Schema:
    """The name of one of some models, the first of which is the default."""
    description = "Name of a model; GET /info lists them. Default: the first one that supports the request."
    if registry.hub or (registry.runs is not None and not entries):  # others may follow
        return {"type": ["string", "null"], "description": description}
    return {"enum": [*(entry.name for entry in entries), None], "description": description}


def _by_model(properties: Mapping[str, Schema]) -> list[Schema]:
    """For each of the models, the first of which is the default, the properties of a body for it."""
    groups: list[tuple[Schema, list[str | None]]] = []
    for i, (name, schema) in enumerate(properties.items()):
        names = next((names for known, names in groups if known == schema), None)
        if names is None:
            groups.append((schema, names := []))
        names += [name, None] if i == 0 else [name]
    return [
        {"properties": {"model": {"enum": names}, **schema}, "required": [] if None in names else ["model"]}
        for schema, names in groups
    ]


def _text(limits: Limits) -> Schema:
    return {**TEXT, "maxLength": limits.max_characters}


def _inputs(forms: Sequence[Schema], limits: Limits) -> Schema:
    """Several inputs, each of one of some forms, or one text alone if that is a form."""
    several = {"type": "array", "items": {"anyOf": list(forms)}, "minItems": 1, "maxItems": limits.max_texts}
    text = _text(limits)
    return {"anyOf": [several, text]} if text in forms else several


def predict_body(registry: "ModelRegistry", limits: Limits) -> Schema:
    """The body of /predict: the input fields of the models' tasks, the threshold of several labels, and options."""
    from ...tasks import TASKS

    options = request_options()
    entries = [entry for entry in registry.entries() if entry.task is not None]
    forms_of: dict[str, list[Schema]] = {}
    settable: dict[str, tuple[str, ...]] = {}  # the options of each model
    if registry.runs is None and not registry.hub:  # the models are few, and open: they know which texts they read
        for entry in entries:
            task = registry.task_model(entry.name).task
            forms_of[entry.name] = _input_forms(task.title, task.fields, limits)
            settable[entry.name] = task.request_options
    forms: list[Schema] = []
    for some in forms_of.values() or [_input_forms(task.title, task.inputs, limits) for task in TASKS.values()]:
        forms += [form for form in some if form not in forms]
    properties = {
        "model": _model(registry, entries),
        INPUT_NAMES[0]: {**_inputs(forms, limits), "description": "The texts, each in a form that the model reads."},
        "threshold": {
            "anyOf": [PROBABILITY, {**LABELLED, "additionalProperties": PROBABILITY}, {"type": "null"}],
            "description": "For a model that predicts several labels: the probability from which a label is "
            "predicted, for all labels or for each of some. Default: the thresholds of the model.",
        },
        **option_schemas(options, limits, "that of the model"),
    }
    schema = _fields(properties, INPUT_NAMES, required=True)
    schema["allOf"] = [{"anyOf": combinations(limits)}]
    if forms_of:
        schema["anyOf"] = _by_model(
            {
                entry.name: {
                    "threshold": _threshold(entry),
                    **dict.fromkeys(INPUT_NAMES, _inputs(forms_of[entry.name], limits)),
                    **{one.alias or one.name: False for one in options if one.name not in settable[entry.name]},
                }
                for entry in entries
            }
        )
    return _body(schema, {"inputs": ["a lovely film", "two hours I will not get back"]})


def _threshold(entry: "Entry") -> Schema:
    """The thresholds that a model takes: none unless it predicts several labels."""
    from ...core.checkpoints.config_file import read_config
    from ...tasks.data.labels import MULTI_LABEL

    raw, _ = read_config(entry.folder)
    if raw.get("problem_type") != MULTI_LABEL:
        return {"type": "null"}
    labels = dict.fromkeys(raw["id2label"].values(), PROBABILITY)
    return {
        "anyOf": [PROBABILITY, {**LABELLED, "properties": labels, "additionalProperties": False}, {"type": "null"}]
    }


def _input_forms(title: str, fields: "Sequence[Field]", limits: Limits) -> list[Schema]:
    """The forms of one input: an object with all fields, and where one is enough, its text or words alone."""
    text = _text(limits)
    values = {field.name: {"anyOf": [text, _list(text)]} if field.lists else text for field in fields}
    required = [field.name for field in fields if field.required]
    properties = {field.name: {**values[field.name], "title": field.label} for field in fields}
    form = {"type": "object", "title": title, "properties": properties, "required": required}
    alone = [text, *([_list(text)] if fields[0].lists else [])] if required == [fields[0].name] else []
    return [*alone, {**form, "additionalProperties": False}]


def embed_body(registry: "ModelRegistry", limits: Limits) -> Schema:
    """The body of /embed."""
    properties = {"model": _model(registry, registry.text_readers()), INPUT_NAMES[0]: _inputs([_text(limits)], limits)}
    return _body(_fields(properties, INPUT_NAMES, required=True), {"inputs": ["a lovely film", "where is my parcel?"]})


def embeddings_body(registry: "ModelRegistry", limits: Limits) -> Schema:
    """The body of /v1/embeddings, where OpenAI's name of the texts is the first one."""
    from ...tasks.embedding.embedder import vector_size

    entries = registry.text_readers()
    properties: dict[str, Any] = {
        "model": _model(registry, entries),
        "input": _inputs([_text(limits)], limits),
        "encoding_format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
        "dimensions": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": max((vector_size(entry.folder) for entry in entries), default=2**16),
            "description": "Number of dimensions to keep of each vector, which is then scaled to length 1.",
        },
        "user": {"type": ["string", "null"], "description": "Ignored."},
    }
    names = sorted(INPUT_NAMES, key=lambda name: name != "input")
    schema = _fields(properties, names, required=True)
    if not registry.hub:
        sizes = {entry.name: {"dimensions": {"maximum": vector_size(entry.folder)}} for entry in entries}
        schema["anyOf"] = _by_model(sizes)
    return _body(schema, {"input": "where is my parcel?"})


def rerank_body(registry: "ModelRegistry", limits: Limits) -> Schema:
    """The body of /rerank: texts, answered by a list, or documents, answered by an object."""
    entries = [entry for entry in registry.entries() if entry.task is not None]
    if registry.runs is None and not registry.hub:
        entries = [entry for entry in entries if registry.task_model(entry.name).task.ranks]
    text = _text(limits)
    flag: Schema = {"type": "boolean", "default": False}
    properties: dict[str, Any] = {
        "model": _model(registry, entries),
        "query": text,
        "texts": {**_inputs([text], limits), "description": "The texts to rank; the answer is a list."},
        "documents": {
            **_inputs([text, {**_object(text=text), "additionalProperties": False}], limits),
            "description": "Instead of texts; the answer is an object with results.",
        },
        "top_n": {"type": ["integer", "null"], "minimum": 1, "description": "Number of results. Default: all."},
        "return_text": {**flag, "description": "Whether the answer has the texts as well."},
        "return_documents": {**flag, "description": "Another name of return_text."},
        "raw_scores": {**flag, "description": "The scores before the sigmoid of the model, if it has one."},
        **{name: {"description": "Ignored: GET /info says how long texts are read."} for name in IGNORED},
    }
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "required": ["query"],
        "oneOf": [{"required": [name]} for name in TEXT_NAMES],
        "allOf": [_at_most_one(RETURN_NAMES)],
    }
    return _body(schema, {"query": "where is my parcel?", "texts": ["It arrives on Monday.", "A lovely film."]})


def zero_shot_body(registry: "ModelRegistry", limits: Limits) -> Schema:
    """The body of /zero-shot-classification."""
    entries = [entry for entry in registry.entries() if entry.task is not None]
    if registry.runs is None and not registry.hub:
        entries = [entry for entry in entries if registry.knows_entailment(entry)]
    text, name = _text(limits), {**TEXT, "pattern": r"^[^=\s]([^=]*[^=\s])?$"}
    properties: dict[str, Any] = {
        "model": _model(registry, entries),
        INPUT_NAMES[0]: {**_inputs([text], limits), "description": "The texts."},
        "labels": {
            "anyOf": [
                {**_list(name), "minItems": 1, "maxItems": limits.max_texts, "uniqueItems": True},
                {**LABELLED, "propertyNames": name, "additionalProperties": name, "maxProperties": limits.max_texts},
            ],
            "description": "The labels to choose from; or an object with the words that the hypothesis has for each.",
        },
        "multi_label": {**FLAG, "default": False, "description": "Whether a text may have none or several labels."},
        "hypothesis": {
            "type": ["string", "null"],
            "pattern": r"\{(label)?\}",
            "description": "Sentence that is true of a text with a label, with {label} where the label goes. "
            "Default: This text is about {label}.",
        },
        "threshold": {
            "anyOf": [PROBABILITY, {"type": "null"}, {**LABELLED, "additionalProperties": PROBABILITY}],
            "description": "With multi_label: the probability from which a label is predicted. Default: 0.5.",
        },
        **{
            one: {"type": ["string", "null"], "description": f"The label of the model that means {one}, if its name "
                  "does not say so."} for one in ("entailment", "contradiction")
        },
    }  # fmt: skip
    schema = _fields(properties, INPUT_NAMES, required=True)
    several: Schema = {"properties": {"multi_label": {"const": True}}, "required": ["multi_label"]}
    at_least_two: Schema = {"anyOf": [{"type": "array", "minItems": 2}, {"type": "object", "minProperties": 2}]}
    one_of_them: Schema = {"properties": {"labels": at_least_two, "threshold": {"type": "null"}}}
    return _body(
        {**schema, "required": ["labels"], "anyOf": [one_of_them, several]},
        {"inputs": ["the team won"], "labels": ["sport", "politics"]},
    )


def prompt_body(prompts: Sequence[str], limits: Limits) -> Schema:
    """The body of /prompt."""
    text = _text(limits)
    pair = {**_object(text=text), "properties": {"text": text, "pair": text}, "additionalProperties": False}
    properties: dict[str, Any] = {
        "model": {"enum": [*prompts, None], "description": "Name of a saved prompt. Default: the first one."},
        INPUT_NAMES[0]: {**_inputs([text, pair], limits), "description": "The texts, or pairs of texts."},
    }
    return _body(_fields(properties, INPUT_NAMES, required=True), {"inputs": ["a lovely film"]})


def generate_body(registry: "ModelRegistry", limits: Limits) -> Schema:
    """The body of /generate, from the generation options."""
    entries = [entry for entry in registry.entries() if entry.model == "gpt2"]
    properties: dict[str, Any] = {
        "model": _model(registry, entries),
        "prompt": {**_text(limits), "description": "Text to continue. Default: empty."},
        "plain": {
            "type": "boolean",
            "default": False,
            "description": "Continue the prompt itself, without the template of a text-to-text model.",
        },
        "stream": {"type": "boolean", "default": False, "description": "Stream the text as server-sent events."},
    }
    properties |= option_schemas(options_of(GenerationConfig), limits)
    body = _fields(properties, PROMPT_NAMES, required=False)
    body["anyOf"] = combinations(limits)
    return _body(body, {"prompt": "Once upon a time", "max_new_tokens": 40, "stream": False})
