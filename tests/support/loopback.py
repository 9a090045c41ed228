"""A W&B backend on loopback: as much of one as the real client needs, and faults on command.

Point WANDB_BASE_URL at `Backend.url`. It keeps what arrives, answers by it, and believes nobody.
"""

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

KEY = "0123456789abcdef" * 2 + "01234567"  # 40 characters, as a key must have
ENTITY = "somebody"


@dataclass
class Run:
    """What arrived of a run. `upserts` counts how often it was begun."""

    name: str
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)  # by offset
    files: dict[str, bytes] = field(default_factory=dict)
    upserts: int = 0
    complete: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its history in order, without what the client adds by itself."""
        ordered = [self.history[at] for at in sorted(self.history)]
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in ordered]


@dataclass(frozen=True)
class Fault:
    """What happens to a request: a delay, then a status in place of an answer, or the line goes dead."""

    status: int = 0
    delay_s: float = 0.0
    drop: bool = False


# What is asked before each request: its kind ("graphql Viewer", "file_stream", "upload") and since when
# the backend has had any, in seconds.
Trouble = Callable[[str, float], Fault | None]


@dataclass
class Backend:
    """What the server has: runs by (project, name), saved views by name, and the kinds of all requests."""

    url: str = ""
    trouble: Trouble = lambda kind, since_s: None
    runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    first_s: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, job_type: str) -> list[Run]:
        """The runs of a job type that arrived whole."""
        return [run for run in self.runs.values() if run.job_type == job_type and run.complete]

    def fault(self, kind: str) -> Fault | None:
        with self.lock:
            self.asked.append(kind)
            now = time.monotonic()
            self.first_s = self.first_s or now
            return self.trouble(kind, now - self.first_s)

    # --- GraphQL -----------------------------------------------------------------------------------

    def answer(self, operation: str, query: str, values: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if operation == "Viewer" or re.search(r"\bviewer\b", query):
                return {
                    "viewer": {
                        "id": "1",
                        "username": ENTITY,
                        "entity": ENTITY,
                        "flags": "{}",
                        "email": "",
                        "admin": False,
                        "teams": {"edges": []},
                    }
                }
            if operation == "UpsertBucket":
                return self._upsert(values)
            if operation == "CreateRunFiles":
                where = f"{self.url}/storage/{values['project']}/{values['run']}"
                files = [{"name": name, "uploadUrl": f"{where}/{name}"} for name in values["files"]]
                for name in values["files"]:  # there by name, with nothing in it yet
                    self.runs[values["project"], values["run"]].files.setdefault(name, b"")
                return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
            if "upsertView" in query:
                return self._upsert_view(values)
            if "allViews" in query:
                nodes = [view for view in self.views.values() if view["project"] == values["name"]]
                wanted = values.get("viewName")
                nodes = [view for view in nodes if wanted in (None, view["name"])]
                return {"project": {"allViews": {"edges": [{"node": view} for view in nodes]}}}
            if operation == "RunFiles":
                return self._list_files(self.runs[values["project"], values["name"]])
            if "runs(" in query:
                return self._list(values)
        self.unknown.append(f"{operation}: {query}")
        raise KeyError(operation)

    def _upsert(self, values: dict[str, Any]) -> dict[str, Any]:
        project = values.get("project") or "uncategorized"
        run = self.runs.setdefault((project, values["name"]), Run(name=values["name"]))
        inserted = run.upserts == 0
        run.upserts += 1
        run.complete = False
        run.display_name = values.get("displayName") or run.display_name
        run.group = values.get("groupName") or run.group
        run.job_type = values.get("jobType") or run.job_type
        run.tags = values.get("tags") or run.tags
        config = json.loads(values.get("config") or "{}")
        run.config |= {k: v["value"] for k, v in config.items() if not k.startswith("_")}
        bucket = {
            "id": f"id-{run.name}",
            "name": run.name,
            "displayName": run.display_name,
            "description": None,
            "config": "{}",
            "sweepName": None,
            "historyLineCount": 0,
            "project": {"id": "p", "name": project, "entity": {"id": "e", "name": ENTITY}},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _upsert_view(self, values: dict[str, Any]) -> dict[str, Any]:
        old = next((v for v in self.views.values() if values.get("id") in (v["id"],)), None)
        old = old or self.views.get(values["name"])
        view = {
            "id": old["id"] if old else f"view-{len(self.views)}",
            "name": values["name"],
            "displayName": values["displayName"],
            "spec": values["spec"],
            "project": values["projectName"],
            "entity": values["entityName"],
        }
        if old:
            del self.views[old["name"]]
        self.views[view["name"]] = view
        return {"upsertView": {"view": {"id": view["id"], "name": view["name"]}, "inserted": old is None}}

    def _list(self, values: dict[str, Any]) -> dict[str, Any]:
        project = values["project"]
        runs = [run for (of, _), run in self.runs.items() if of == project]
        if not runs:
            return {"project": None}
        wanted = json.loads(values.get("filters") or "{}").get("name", {}).get("$in")
        runs = [run for run in runs if wanted is None or run.name in wanted]
        edges = [{"cursor": run.name, "node": _node(run)} for run in runs]
        return {
            "project": {
                "internalId": "p",
                "readOnly": False,
                "runCount": len(runs),
                "runs": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}},
            }
        }

    def _list_files(self, run: Run) -> dict[str, Any]:
        nodes = [
            {
                "id": name,
                "name": name,
                "url": "",
                "directUrl": "",
                "sizeBytes": len(content),
                "mimetype": "",
                "updatedAt": None,
                "md5": "",
            }
            for name, content in run.files.items()
        ]
        edges = [{"node": node, "cursor": node["name"]} for node in nodes]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "p", "run": {"fileCount": len(nodes), "files": files}}}

    # --- files -------------------------------------------------------------------------------------

    def stream(self, project: str, name: str, body: dict[str, Any]) -> None:
        with self.lock:
            run = self.runs[project, name]
            for file, chunk in (body.get("files") or {}).items():
                lines = [json.loads(line) for line in chunk["content"] if line.strip()]
                if file == "wandb-history.jsonl":
                    run.history |= {chunk["offset"] + at: line for at, line in enumerate(lines)}
                elif file == "wandb-summary.json" and lines:
                    run.summary = lines[-1]
            run.complete = run.complete or bool(body.get("complete"))

    def store(self, project: str, name: str, file: str, content: bytes) -> None:
        with self.lock:
            self.runs[project, name].files[file] = content


def _node(run: Run) -> dict[str, Any]:
    return {
        "id": f"id-{run.name}",
        "name": run.name,
        "displayName": run.display_name,
        "state": "finished" if run.complete else "running",
        "tags": run.tags,
        "group": run.group,
        "jobType": run.job_type,
        "config": json.dumps({k: {"value": v} for k, v in run.config.items()}),
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": "{}",
        "sweepName": None,
        "historyLineCount": len(run.history),
        "createdAt": "2026-01-01T00:00:00",
        "heartbeatAt": "2026-01-01T00:00:00",
        "description": None,
        "notes": None,
        "readOnly": False,
        "commit": None,
        "user": {"name": ENTITY, "username": ENTITY},
        "projectId": "1",
        "files": {"edges": [{"node": {"name": f, "sizeBytes": len(c)}} for f, c in run.files.items()]},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: Backend

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = self._body()
        document = json.loads(body or b"{}")
        if self.path.endswith("/file_stream"):
            if self._in_trouble("file_stream"):
                return
            _, _, _entity, project, name, _ = self.path.split("/")
            self.backend.stream(project, name, document)
            self._reply({})
        else:
            named = re.search(r"(?:query|mutation)\s+(\w+)", document.get("query", ""))
            operation = document.get("operationName") or (named[1] if named else "")
            if self._in_trouble(f"graphql {operation}"):
                return
            try:
                values = document.get("variables") or {}
                self._reply({"data": self.backend.answer(operation, document.get("query", ""), values)})
            except KeyError:
                self._reply({"data": None, "errors": [{"message": f"no {operation} here"}]})

    def do_PUT(self) -> None:
        body = self._body()
        if self._in_trouble("upload"):
            return
        _, _, project, name, file = self.path.split("/", 4)
        self.backend.store(project, name, unquote(file), body)
        self._reply({})

    def do_GET(self) -> None:
        self._body()
        if not self._in_trouble("get"):
            self._reply({}, 404)

    def _in_trouble(self, kind: str) -> bool:
        self.backend.keys.add(self.headers.get("Authorization", ""))
        fault = self.backend.fault(kind)
        if fault is None:
            return False
        time.sleep(fault.delay_s)
        if fault.drop:
            self.close_connection = True
            self.connection.close()
        elif fault.status:
            self._reply({"errors": [{"message": f"status {fault.status} on command"}]}, fault.status)
        return bool(fault.drop or fault.status)

    def _reply(self, document: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(document).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # who asked has given up
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None: ...


@contextmanager
def serving(trouble: Trouble | None = None) -> Iterator[Backend]:
    """A backend that is there until the end of the block."""
    backend = Backend()
    if trouble:
        backend.trouble = trouble
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"backend": backend}))
    backend.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
