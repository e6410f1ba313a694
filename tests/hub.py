"""A small stand-in of the Hugging Face Hub's HTTP interface on loopback: repositories of models in memory.

It speaks what `create_repo`, `upload_folder`, `model_info` and `snapshot_download` ask for. Xet has a protocol
of its own, so a client is told by its documented variable HF_HUB_DISABLE_XET to send large files by Git LFS."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REGULAR = (".json", ".md", ".txt", ".jinja", ".gitattributes")  # of the commit itself; the rest goes by LFS


@dataclass
class Repository:
    "One repository: its commits in order, each all files by path."

    private: bool
    commits: dict = field(default_factory=dict)  # sha -> path -> bytes

    def at(self, revision: str) -> str | None:
        "The sha that a branch or a commit means."
        if revision in ("main", "HEAD"):
            return list(self.commits)[-1]
        return revision if revision in self.commits else None

    def commit(self, changes: dict) -> str:  # path -> bytes
        files = dict(list(self.commits.values())[-1]) if self.commits else {}
        files |= changes
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        return sha


class Hub:
    "The stand-in; `with Hub() as hub` serves at `hub.address`."

    def __init__(self):
        self.repositories = {}  # owner/name -> Repository
        self.objects = {}  # sha-256 -> bytes, by LFS
        self.requests = []  # method and path of each request
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict:
        "What a client has to find in its environment, before it imports huggingface_hub."
        return {"HF_ENDPOINT": self.address, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_loopback"}

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def _answer(self, content=b"", status=200, headers={}):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str):
        self._answer({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _dispatch(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        for pattern, answer in self._routes.items():
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                return answer(self, body, *match.groups())
        self._missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = _dispatch

    # Uploading

    def _create(self, body):
        about = json.loads(body)
        name = f"{about.get('organization') or 'somebody'}/{about['name']}"
        if name in self.hub.repositories:
            return self._answer({"error": "exists", "url": f"{self.hub.address}/{name}"}, 409)
        self.hub.repositories[name] = Repository(bool(about.get("private") or about.get("visibility") == "private"))
        self.hub.repositories[name].commit({".gitattributes": b""})
        self._answer({"url": f"{self.hub.address}/{name}", "name": name})

    def _card(self, body):
        text = json.loads(body)["content"]
        errors = [] if text.startswith("---\n") else [{"message": "a card begins with metadata"}]
        self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _modes(self, body, repository):
        files = [
            {
                "path": file["path"],
                "uploadMode": "regular" if file["path"].endswith(REGULAR) else "lfs",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer({"files": files})

    def _batch(self, body, repository):
        objects = []
        for each in json.loads(body)["objects"]:
            action = {"upload": {"href": f"{self.hub.address}/lfs/{each['oid']}", "header": {}}}
            new = each["oid"] not in self.hub.objects
            objects.append(each | ({"actions": action} if new else {}))
        self._answer({"transfer": "basic", "objects": objects})

    def _object(self, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer({"error": "altered on its way"}, 422)
        self.hub.objects[oid] = body
        self._answer({})

    def _commit(self, body, repository):
        changes = {}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                changes[value["path"]] = self.hub.objects[value["oid"]]
        sha = self.hub.repositories[repository].commit(changes)
        address = f"{self.hub.address}/{repository}/commit/{sha}"
        self._answer({"commitUrl": address, "commitOid": sha, "pullRequestUrl": None})

    # Downloading

    def _files(self, name, revision) -> tuple[str, dict] | None:
        "The sha and the files of a revision; None, and the answer is sent, where there is none."
        repository = self.hub.repositories.get(name)
        sha = repository and repository.at(revision or "main")
        if not sha:
            self._missing("RevisionNotFound" if repository else "RepoNotFound")
            return None
        return sha, repository.commits[sha]

    def _info(self, body, name, revision=None):
        if found := self._files(name, revision):
            sha, files = found
            now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            siblings = [{"rfilename": path} for path in sorted(files)]
            private = self.hub.repositories[name].private
            about = {"_id": sha[:24], "id": name, "modelId": name, "sha": sha, "private": private}
            self._answer(about | {"siblings": siblings, "lastModified": now, "tags": [], "createdAt": now})

    def _tree(self, body, name, revision):
        if found := self._files(name, revision):
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in found[1].items()
            ]
            self._answer(entries)

    def _resolve(self, body, name, revision, path):
        if found := self._files(name, revision):
            sha, files = found
            if path not in files:
                return self._missing("EntryNotFound")
            content = files[path]
            tag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{tag}"', "X-Repo-Commit": sha, "Content-Type": "application/octet-stream"}
            self._answer(content, 200, headers)

    _routes = {
        r"POST /api/repos/create": _create,
        r"POST /api/validate-yaml": _card,
        r"POST /api/models/([^/]+/[^/]+)/preupload/.+": _modes,
        r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": _batch,
        r"PUT /lfs/(\w+)": _object,
        r"POST /api/models/([^/]+/[^/]+)/commit/.+": _commit,
        r"GET /api/models/([^/]+/[^/]+)": _info,
        r"GET /api/models/([^/]+/[^/]+)/revision/([^/]+)": _info,
        r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)": _tree,
        r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)": _resolve,
    }
