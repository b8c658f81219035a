//! A process that makes tables and drops them again, while everything else goes on. It alone uses its names, one at a time, so that it
//! knows after each clear answer what must be true; a name whose answer got lost is left alone.

use super::{Mode, Shared, keyed_rows, rows, table_name};
use crate::client::{CallError, Connection, Session};
use crate::draw::{Draws, Source, Stream};
use crate::history::{Event, TableOp, TableOutcome};
use crate::plan::{KeyedTable, Maker};
use crate::recorder::now_ns;
use bytes::Bytes;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc::{CreateTableRequest, DropTableRequest, GetTableInfoRequest, ListTablesRequest, PbTablePath};
use floss_raft::env::runtime::time;
use std::sync::Arc;
use std::time::Duration;

/// A server that cannot decide says so before this is over.
const PATIENCE: Duration = Duration::from_millis(12_000);

struct Making {
    shared: Arc<Shared>,
    session: Arc<Session>,
    plan: Maker,
    draws: Source,
    maker: u32,
    /// How many names are used up.
    given_up: u32,
    /// Whether the table with the current name is there.
    is_there: bool,
    /// Ids that the current name has had, as far as they are known; the last may be that of the table that is there.
    ids: Vec<i64>,
}

/// Runs until the run ends its workload; must be spawned on a node of its own.
pub async fn run_maker(shared: Arc<Shared>, number: u32, bootstrap: Vec<String>) {
    let draws = Draws::new(shared.plan.seed);
    let source = |of: u64| draws.source(Stream::Maker, u64::from(number) << 8 | of);
    let session = Arc::new(Session::new(table_name(0), bootstrap, source(0)));
    shared.add_session(session.clone());
    let plan = shared.plan.workload.makers[number as usize].clone();
    let (draws, ids) = (source(1), Vec::new());
    Making { shared, session, plan, draws, maker: number, given_up: 0, is_there: false, ids }.run().await;
}

impl Making {
    async fn run(mut self) {
        while !matches!(self.shared.mode(), Mode::Finish | Mode::Stop) {
            time::sleep(Duration::from_millis(self.draws.between(1, 2 * self.plan.pause_ms))).await;
            let (name, op) = self.choose();
            let Ok(connection) = self.session.connect_any().await else { continue };
            let sent_ns = now_ns();
            let outcome = match self.ask(&connection, &name, op).await {
                // It never left.
                Err(CallError::NotSent(_)) => continue,
                answer => outcome(answer),
            };
            self.learn(&name, op, &outcome);
            self.shared.recorder.push(Event::Table { maker: self.maker, name, op, sent_ns, outcome });
        }
    }

    fn name(&self) -> String {
        format!("m{}_{}", self.maker, self.given_up)
    }

    fn choose(&self) -> (String, TableOp) {
        let draw = self.draws.below(100);
        if draw < 10 || self.given_up >= self.plan.names_max {
            // Those of the workload are there from the beginning to the end.
            let old = table_name(self.draws.below(self.shared.plan.tables().len() as u64) as usize);
            return (old, if draw < 5 { TableOp::List } else { TableOp::Look });
        }
        let op = match (self.is_there, draw) {
            (_, 10..20) => TableOp::List,
            (_, 20..45) => TableOp::Look,
            (true, 45..60) | (false, 45..90) => TableOp::Create,
            _ => TableOp::Drop,
        };
        (self.name(), op)
    }

    async fn ask(&self, connection: &Connection, name: &str, op: TableOp) -> Result<TableOutcome, CallError> {
        let path = PbTablePath { table_name: name.to_owned(), ..self.session.path() };
        match op {
            TableOp::Create => {
                let request = CreateTableRequest { table_path: path, table_json: self.table_json(), ignore_if_exists: false };
                connection.send(request).answer(PATIENCE).await.map(|_| TableOutcome::Done)
            }
            TableOp::Drop => {
                let request = DropTableRequest { table_path: path, ignore_if_not_exists: false };
                connection.send(request).answer(PATIENCE).await.map(|_| TableOutcome::Done)
            }
            TableOp::Look => {
                let request = GetTableInfoRequest { table_path: path };
                connection.send(request).answer(PATIENCE).await.map(|info| TableOutcome::Id(info.table_id))
            }
            TableOp::List => {
                let request = ListTablesRequest { database_name: path.database_name };
                let listed = connection.send(request).answer(PATIENCE).await?;
                Ok(TableOutcome::Names(listed.table_name.into_iter().collect()))
            }
        }
    }

    fn table_json(&self) -> Bytes {
        let keyed = self.plan.like.and_then(|table| self.shared.plan.keyed(table));
        Bytes::from(match keyed {
            Some(keyed) => keyed_rows::table_json(&KeyedTable { buckets: self.plan.buckets, ..keyed.clone() }),
            None => rows::table_json(self.plan.buckets, 0),
        })
    }

    /// What this answer says about the current name. What a look shows may be old.
    fn learn(&mut self, name: &str, op: TableOp, outcome: &TableOutcome) {
        if name != self.name() {
            return;
        }
        match (op, outcome) {
            (TableOp::Create | TableOp::Drop, TableOutcome::Unknown { .. }) => {
                self.shared.note_made(&self.ids, None);
                self.given_up += 1;
                (self.is_there, self.ids) = (false, Vec::new());
            }
            (TableOp::Create, _) => self.is_there = true,
            (TableOp::Drop, _) => {
                self.is_there = false;
                self.shared.note_made(&self.ids, Some(false));
            }
            (TableOp::Look, TableOutcome::Id(id)) if self.is_there && !self.ids.contains(id) => {
                self.ids.push(*id);
                self.shared.note_made(&[*id], Some(true));
            }
            _ => {}
        }
    }
}

fn outcome(answer: Result<TableOutcome, CallError>) -> TableOutcome {
    match answer {
        Ok(outcome) => outcome,
        Err(CallError::Refused { code, .. }) if code == ErrorCode::TableAlreadyExist.code() => TableOutcome::Exists,
        Err(CallError::Refused { code, .. }) if code == ErrorCode::TableNotExist.code() => TableOutcome::Absent,
        Err(error) => TableOutcome::Unknown { why: error.text() },
    }
}
