#!/usr/bin/python3
"""A client of Holdfast in Python: sets a goal, and watches it until its end, over a connection that breaks.

    protoc -I proto --python_out=stubs --grpc_out=stubs --plugin=protoc-gen-grpc=$(which grpc_python_plugin) \\
      proto/holdfast/v1/*.proto
    PYTHONPATH=stubs /usr/bin/python3 examples/python/client.py SOCKET REPOSITORY GOAL CHECK

Needs Debian's python3-grpcio, python3-protobuf, protobuf-compiler-grpc.
"""
import sys
import uuid

import grpc
from holdfast.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc


def watch(sessions: session_service_pb2_grpc.SessionServiceStub, name: str):
    """All events, each once and in order, over as many streams as it takes."""
    last, streams = 0, 0
    while True:
        streams += 1
        stream = sessions.WatchSession(session_service_pb2.WatchSessionRequest(name=name, after_sequence=last))
        try:
            for response in stream:
                if response.WhichOneof("kind") != "event":
                    continue
                assert response.event.sequence == last + 1
                last = response.event.sequence
                yield response.event
                if streams == 1 and last == 5:
                    print("watch: again from 5")
                    stream.cancel()  # as if the connection was lost
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE,
                                    grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise


def main() -> None:
    socket, repository, goal, check = sys.argv[1:]
    channel = grpc.insecure_channel(f"unix:{socket}")
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)

    # With a request id it can be sent again when no answer comes: it acts once.
    made = sessions.CreateSession(session_service_pb2.CreateSessionRequest(
        request_id=str(uuid.uuid4()),
        goal={"text": goal, "checks": [{"command": check}]},
        spec={"repository": repository}), timeout=60)
    name = made.session.name
    print(f"session: {name}")

    for event in watch(sessions, name):
        kind = event.WhichOneof("kind")
        if kind == "goal_changed" and event.goal_changed.state >= session_pb2.Goal.STATE_SUCCEEDED:
            print(f"goal: {session_pb2.Goal.State.Name(event.goal_changed.state)}")
            break
    channel.close()


if __name__ == "__main__":
    main()
