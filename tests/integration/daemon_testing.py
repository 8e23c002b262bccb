"""A daemon process and stubs of its API, for tests that talk to it from outside."""
import contextlib
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
NANO = ROOT / "model/nano/checkpoint"


def make_stubs(folder: pathlib.Path) -> None:
    """Python code of the protos, importable afterwards as holdfast.v1.*."""
    folder.mkdir(parents=True, exist_ok=True)
    protos = sorted((ROOT / "proto/holdfast/v1").glob("*.proto"))
    plugin = subprocess.run(["which", "grpc_python_plugin"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", f"--grpc_out={folder}",
                    f"--plugin=protoc-gen-grpc={plugin}", *map(str, protos)], check=True)
    sys.path.insert(0, str(folder))


@contextlib.contextmanager
def daemon(command: list, log: pathlib.Path):
    """Runs a daemon until the block ends; gives (its process, the path of its socket)."""
    with log.open("w") as errors:
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            for line in process.stdout:
                if line.startswith("serving at "):
                    yield process, line.removeprefix("serving at ").strip()
                    break
            else:
                raise AssertionError(f"the daemon ended with {process.wait()}: {log.read_text()}")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
