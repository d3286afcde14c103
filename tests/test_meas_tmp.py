import time, subprocess, os
from sqlalchemy import text
from tests.test_workers import *
from tests.test_workers import works

def conns(works):
    with reading(works.engine) as c:
        return c.execute(text("select count(*) from pg_stat_activity where datname=current_database() and pid<>pg_backend_pid()")).scalar_one()
def cpu(pid):
    f=open(f"/proc/{pid}/stat").read().split(); return (int(f[13])+int(f[14]))/100
def rss(pid):
    return [l for l in open(f"/proc/{pid}/status") if l.startswith(("VmRSS","VmHWM"))]

def test_m(works, sink):
    w=works.start("worker"); s=works.start_scheduler()
    wait_until(lambda: len(registered(works))==len(QUEUES)); time.sleep(10)
    base=conns(works)
    a,b=cpu(w.pid),cpu(s.pid)
    with works.engine.connect() as c:
        x0=c.execute(text("select xact_commit+xact_rollback, tup_inserted+tup_updated+tup_deleted from pg_stat_database where datname=current_database()")).one()
    time.sleep(30)
    with works.engine.connect() as c:
        x1=c.execute(text("select xact_commit+xact_rollback, tup_inserted+tup_updated+tup_deleted from pg_stat_database where datname=current_database()")).one()
    print("idle conns worker+scheduler", base, "cpu/30s worker", cpu(w.pid)-a, "sched", cpu(s.pid)-b, "xacts", x1[0]-x0[0], "rows written", x1[1]-x0[1])
    print(rss(w.pid), rss(s.pid))
    s.terminate(); s.wait(); time.sleep(1)
    print("worker alone idle", conns(works))
    works.plan(400); sink.on(".", delay=0.3)
    works.ask("deliver")
    wait_until(lambda: works.held_by(w)>0)
    m=0
    for _ in range(30): m=max(m,conns(works)); time.sleep(0.1)
    print("delivering", m)
