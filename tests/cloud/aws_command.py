"""The real aws command without its start-up, which takes half a second of processor time for every call.

``serve SOCKET`` loads the command once and forks for every call; ``SOCKET ARGUMENT...`` makes a call: it hands over its
arguments, environment, streams and folder, and exits as the call does.
"""

import json
import os
import select
import signal
import socket
import sys
import threading


def serve(path: str) -> None:
    """Answer calls until stdin is closed, as it is when the tests end."""
    from awscli.clidriver import create_clidriver

    driver = create_clidriver()
    for service in ("s3", "sagemaker"):
        driver.session.get_service_model(service)  # parsed once, and then shared by all forks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{path}.new")
    listener.listen(64)
    os.rename(f"{path}.new", path)  # who finds it can connect
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(driver, connection)
        connection.close()


def answer(driver, connection: socket.socket) -> None:
    """Carry out one call in a fork, and tell its exit code; end at once if the caller is killed."""
    message, files, _, _ = socket.recv_fds(connection, 200_000, 4)
    arguments, environment = json.loads(message)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.fchdir(files[3])
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=lambda: connection.recv(1) or os._exit(1), daemon=True).start()
    code = driver.main(arguments)
    sys.stdout.flush()
    connection.send(bytes([code]))
    os._exit(0)


def call(path: str, arguments: list[str]) -> int:
    """Have the server carry out a call, and return its exit code."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    message = json.dumps([arguments, dict(os.environ)]).encode()
    socket.send_fds(connection, [message], [0, 1, 2, os.open(".", os.O_RDONLY)])
    told = connection.recv(1)
    return told[0] if told else 255


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
