"""pyfluss 1.0.0 against three Floss nodes: append by pandas and Arrow, scan to Arrow and pandas, one node killed in between.

Usage: check.py FLOSS_BINARY CLUSTER_DIR
"""

import asyncio
import json
import subprocess
import sys
import time

import fluss
import pandas as pd
import pyarrow as pa

ROWS = 1000
BUCKETS = 3
passed = 0


def check(what, holds, counts=True):
    global passed
    if not holds:
        print(f"pyfluss: FAILED {what}")
        sys.exit(1)
    passed += counts


def floss(binary, directory, *words):
    command = [binary, "dev", *words, "--dir", directory]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    check(" ".join(["floss dev", *words]), done.returncode == 0, counts=False)
    return done.stdout


async def read(table, columns=None):
    scan = table.new_scan()
    if columns:
        scan = scan.project_by_name(columns)
    scanner = await scan.create_record_batch_log_scanner()
    scanner.subscribe_buckets({bucket: fluss.EARLIEST_OFFSET for bucket in range(BUCKETS)})
    return scanner


async def append(table, first):
    async with table.new_append().create_writer() as writer:
        ids = range(first, first + ROWS)
        writer.write_pandas(pd.DataFrame({"id": list(ids), "item": [f"item-{i}" for i in ids], "price": [i / 4 for i in ids]}))
        ids = range(first + ROWS, first + 2 * ROWS)
        columns = [pa.array(ids, pa.int64()), pa.array([f"item-{i}" for i in ids]), pa.array([i / 4 for i in ids])]
        writer.write_arrow(pa.table(columns, names=["id", "item", "price"]))


async def read_again(connection, path):
    """All rows, with a node down. pyfluss 1.0.0 asks the leaders it remembers and does not try again by itself when one of
    them is dead, so this does what an application has to: ask for the table anew and repeat, for 20 s at most."""
    deadline = time.monotonic() + 20
    while True:
        try:
            table = await connection.get_table(path)
            return await (await read(table)).to_pandas()
        except fluss.FlussError as error:
            if time.monotonic() > deadline:
                raise
            print(f"read again after: {error}")
            await asyncio.sleep(0.5)


async def main(binary, directory):
    cluster = json.loads(floss(binary, directory, "print", "cluster-json"))
    async with await fluss.FlussConnection.create(fluss.Config({"bootstrap.servers": cluster["bootstrap_servers"]})) as connection:
        path = fluss.TablePath("fluss", "pyfluss_check")
        schema = fluss.Schema(pa.schema([("id", pa.int64()), ("item", pa.string()), ("price", pa.float64())]))
        admin = connection.get_admin()
        await admin.drop_table(path, True)
        await admin.create_table(path, fluss.TableDescriptor(schema, bucket_count=BUCKETS), False)
        table = await connection.get_table(path)
        await append(table, 0)
        rows = await (await read(table)).to_arrow()
        check("arrow rows before the kill", sorted(rows.column("id").to_pylist()) == list(range(2 * ROWS)))

        victim = str(cluster["nodes"][1]["id"])
        floss(binary, directory, "kill", victim)
        await append(table, 2 * ROWS)
        frame = await read_again(connection, path)
        check("pandas rows with a node down", sorted(frame["id"].tolist()) == list(range(4 * ROWS)))
        check("values survive", all(frame["item"] == "item-" + frame["id"].astype(str)) and all(frame["price"] == frame["id"] / 4))

        floss(binary, directory, "restart", victim)
        two = await (await read(table, ["price", "id"])).to_arrow()
        check("projection", two.column_names == ["price", "id"] and two.num_rows == 4 * ROWS)
        offsets = await admin.list_offsets(path, list(range(BUCKETS)), fluss.OffsetSpec.latest())
        check("offsets", sum(offsets.values()) == 4 * ROWS)
        await admin.drop_table(path, False)
    print(f"pyfluss: {passed} passed, 0 failed")
    # pyfluss 1.0.0 may abort the interpreter when it ends right after its last await.
    await asyncio.sleep(0.2)


asyncio.run(main(*sys.argv[1:3]))
