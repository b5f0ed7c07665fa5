"""imapclient as its manual shows it, and each message made durable: no program, a measure.

    python -I imapclient_alone.py PORT USER PASSWORD MAILDIR

Rule of the file: what imapclient can do by itself, which is one command at a time, in
batches of 100 messages; files are flushed one by one, their directory once a batch.
"""

import os
import sys

from imapclient import IMAPClient

BATCH = 100


def main() -> None:
    port, user, password, maildir = sys.argv[1:]
    client = IMAPClient("127.0.0.1", int(port), ssl=False)
    client.login(user, password)
    client.select_folder("INBOX", readonly=True)
    uids = client.search("ALL")
    directory = os.open(f"{maildir}/new", os.O_RDONLY)
    for start in range(0, len(uids), BATCH):
        for uid, found in client.fetch(uids[start : start + BATCH], ["BODY.PEEK[]"]).items():
            temporary = f"{maildir}/tmp/{uid}.imapclient"
            with open(temporary, "xb") as file:
                file.write(found[b"BODY[]"].replace(b"\r\n", b"\n"))
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, f"{maildir}/new/{uid}.imapclient")
        os.fsync(directory)
    client.logout()


if __name__ == "__main__":
    main()
