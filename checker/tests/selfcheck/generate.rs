//! Good histories: a small world that keeps every promise, with clients that lose answers, crash and send again.

use floss_checker::history::*;
use floss_checker::{Batch, Cell, Change, Engine, Function, Image, Key, Kind, Op, Row, Rows, Table};
use std::collections::{BTreeMap, BTreeSet};

pub const NODES: u64 = 3;
const KEYS: u64 = 5;
const STEPS: u64 = 260;
/// The column of numbers, where there is one.
pub const NUMBERS: usize = 3;

pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        let mut draws = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D);
        draws.below(2);
        draws
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}

/// What clients can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Buckets, offsets, batches.
    All,
    /// Rows only: the client library chooses buckets and batches, sends again by itself, and tells no offset.
    Rows,
}

struct Log {
    table: Option<Table>,
    /// The next number of a new row, if the server gives numbers; they are in the last column.
    numbered: Option<i64>,
    batches: Vec<Logged>,
    end: i64,
    /// After each batch.
    states: Vec<(i64, Rows)>,
    next: BTreeMap<Writer, i64>,
    /// What acks say.
    places: BTreeMap<(Writer, i64), i64>,
}

struct Client {
    process: u64,
    bucket: Bucket,
    work: Work,
}

enum Work {
    Write { writer: Writer, next: i64, open: BTreeMap<i64, (Request, bool)>, unclear: BTreeSet<Key> },
    Read { next: i64, fresh: bool },
    Look,
}

/// An attempt.
struct Flight {
    op: u64,
    client: usize,
    bucket: Bucket,
    request: Request,
    /// Took effect, and would be answered so.
    done: Option<Outcome>,
    /// Nobody waits for it any more.
    is_given_up: bool,
}

pub struct World {
    draws: Draws,
    sight: Sight,
    now: u64,
    next_id: u64,
    pub events: Vec<Event>,
    logs: Vec<Log>,
    clients: Vec<Client>,
    flights: Vec<Flight>,
    term: u64,
    leader: u64,
}

/// The same for the same seed.
pub fn generate(seed: u64) -> Vec<Event> {
    let mut draws = Draws::new(seed);
    let sight = if draws.percent(25) { Sight::Rows } else { Sight::All };
    let keyed_only = draws.percent(50);
    let mut world = World::new(draws, sight, keyed_only);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.events
}

fn draw_table(draws: &mut Draws, sight: Sight) -> Table {
    let engine = match draws.below(6) {
        _ if sight == Sight::Rows => Engine::Replace,
        0 => Engine::FirstRow,
        1 => Engine::Versioned(1),
        2 => Engine::Aggregation(vec![Function::Last, Function::Sum, Function::LastNonNull]),
        _ => Engine::Replace,
    };
    let image = if sight == Sight::All && draws.percent(30) { Image::Wal } else { Image::Full };
    Table { key_columns: vec![0], deletes: engine == Engine::Replace, engine, image }
}

impl World {
    fn new(mut draws: Draws, sight: Sight, is_keyed: bool) -> Self {
        let logs: Vec<Log> = (0..2)
            .map(|bucket| {
                let keyed = is_keyed || sight == Sight::All && bucket == 1;
                let table = keyed.then(|| draw_table(&mut draws, sight));
                let (batches, states) = (Vec::new(), vec![(0, Rows::new())]);
                let is_replace = table.as_ref().is_some_and(|table| table.engine == Engine::Replace);
                let numbered = (sight == Sight::All && is_replace && draws.percent(30)).then_some(1);
                Log { table, numbered, batches, end: 0, states, next: BTreeMap::new(), places: BTreeMap::new() }
            })
            .collect();
        let tables = (0..).zip(&logs).filter_map(|(bucket, log)| Some((bucket, log.table.clone()?))).collect();
        let numbered = (0..).zip(&logs).filter(|(_, log)| log.numbered.is_some());
        let numbered = numbered.map(|(bucket, _)| (bucket, Numbered { table: bucket.into(), column: NUMBERS })).collect();
        let events = vec![Event::Start { tables, numbered, expiring: BTreeSet::new() }];
        let (clients, flights) = (Vec::new(), Vec::new());
        let mut world = Self { draws, sight, now: 0, next_id: 1, events, logs, clients, flights, term: 1, leader: 1 };
        for bucket in 0..2 {
            for _ in 0..2 {
                world.new_writer(bucket);
            }
            let fresh = world.draws.percent(50);
            world.new_client(bucket, Work::Read { next: 0, fresh });
            if world.logs[bucket as usize].table.is_some() && sight == Sight::All {
                world.new_client(bucket, Work::Look);
            }
        }
        world
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn new_client(&mut self, bucket: Bucket, work: Work) {
        let process = self.id();
        self.clients.push(Client { process, bucket, work });
    }

    fn new_writer(&mut self, bucket: Bucket) {
        let writer = self.id();
        self.new_client(bucket, Work::Write { writer, next: 0, open: BTreeMap::new(), unclear: BTreeSet::new() });
    }

    fn step(&mut self) {
        self.now += self.draws.below(4);
        match self.draws.below(100) {
            0..40 => self.start(),
            40..64 => self.apply(),
            64..84 => self.answer(),
            84..88 => self.give_up(),
            88..91 => self.crash_client(),
            91..94 => self.strike(),
            94..97 => self.show_rows(),
            _ => self.believe(),
        }
    }

    fn invoke(&mut self, client: usize, bucket: Bucket, request: Request) {
        let (op, process, at) = (self.id(), self.clients[client].process, self.now);
        let told = match (self.sight, &request) {
            (Sight::Rows, Request::Append { .. } | Request::Put { .. }) => None,
            _ => Some(bucket),
        };
        self.events.push(Event::Invoke { at, op, process, bucket: told, request: request.clone() });
        self.flights.push(Flight { op, client, bucket, request, done: None, is_given_up: false });
    }

    fn start(&mut self) {
        let client = self.draws.below(self.clients.len() as u64) as usize;
        let busy = self.flights.iter().any(|flight| flight.client == client && !flight.is_given_up);
        let bucket = self.clients[client].bucket;
        match &self.clients[client].work {
            Work::Write { .. } => self.write(client),
            _ if busy => {}
            Work::Read { next, fresh } => {
                let from = (self.sight == Sight::All).then_some(*next);
                let request = Request::Fetch { from, fresh: *fresh };
                self.invoke(client, bucket, request);
            }
            Work::Look => {
                let key = |draws: &mut Draws| vec![Cell::Int(draws.below(KEYS) as i64)];
                let request = match self.draws.below(10) {
                    0..2 => Request::Count,
                    2..4 => Request::Scan { prefix: Vec::new() },
                    4 => Request::Scan { prefix: key(&mut self.draws) },
                    _ => {
                        let keys: BTreeSet<Key> = (0..1 + self.draws.below(2)).map(|_| key(&mut self.draws)).collect();
                        Request::Lookup { keys: keys.into_iter().collect() }
                    }
                };
                self.invoke(client, bucket, request);
            }
        }
    }

    /// Sends the first open batch that is not under way again, or a new one.
    fn write(&mut self, client: usize) {
        let (bucket, sight) = (self.clients[client].bucket, self.sight);
        let table = self.logs[bucket as usize].table.clone();
        let Work::Write { writer, next, open, unclear } = &mut self.clients[client].work else { return };
        if let Some((request, under_way)) = open.values_mut().find(|(_, under_way)| !*under_way) {
            *under_way = true;
            let request = request.clone();
            return self.invoke(client, bucket, request);
        }
        if open.len() >= if sight == Sight::Rows { 1 } else { 3 } {
            return;
        }
        let (writer, sequence) = (*writer, *next);
        let request = match &table {
            None => {
                let rows = if sight == Sight::Rows { 1 } else { 1 + self.draws.below(3) as u32 };
                Request::Append { writer, sequence, rows }
            }
            Some(table) if sight == Sight::All => {
                let is_numbered = self.logs[bucket as usize].numbered.is_some();
                Request::Put { writer, sequence, batch: draw_batch(&mut self.draws, table, is_numbered, writer, sequence) }
            }
            Some(_) => {
                // Each key has one writer here, which knows whether it is there.
                let key = vec![Cell::Int((self.draws.below(KEYS) * 1000 + writer) as i64)];
                if unclear.contains(&key) {
                    return;
                }
                let rows = &self.logs[bucket as usize].states.last().expect("the empty one").1;
                let delete = rows.contains_key(&key) && self.draws.percent(30);
                let row = vec![key[0].clone(), Cell::Int(writer as i64), Cell::Int(sequence)];
                let op = if delete { Op::Delete(key) } else { Op::Upsert(row) };
                Request::Put { writer, sequence, batch: Batch { ops: vec![op], columns: None } }
            }
        };
        *next += 1;
        open.insert(sequence, (request.clone(), true));
        self.invoke(client, bucket, request);
    }

    fn pick(&mut self, is_it: impl Fn(&Flight) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.flights.len()).filter(|at| is_it(&self.flights[*at])).collect();
        self.draws.pick(&fitting).copied()
    }

    fn apply(&mut self) {
        if let Some(at) = self.pick(|flight| flight.done.is_none()) {
            self.apply_one(at);
        }
    }

    fn apply_one(&mut self, at: usize) {
        let (bucket, request) = (self.flights[at].bucket as usize, self.flights[at].request.clone());
        let log = &mut self.logs[bucket];
        let outcome = match &request {
            Request::Append { writer, sequence, .. } | Request::Put { writer, sequence, .. } => {
                log.write(*writer, *sequence, &request, self.sight)
            }
            Request::Fetch { from, fresh } => {
                let next = match &self.clients[self.flights[at].client].work {
                    Work::Read { next, .. } => from.unwrap_or(*next),
                    _ => 0,
                };
                let known: Vec<i64> = log.batches.iter().map(Logged::end).filter(|end| *end >= next).collect();
                let behind = self.draws.pick(&known).copied().unwrap_or(log.end);
                let end = if *fresh || self.draws.percent(70) { log.end } else { behind };
                let limit = 1 + self.draws.below(8) as usize;
                let rows = log.rows(self.sight).into_iter().filter(|row| (next..end).contains(&row.offset)).take(limit).collect();
                Outcome::Ok(Answer::Fetched { high_watermark: (self.sight == Sight::All).then_some(end), rows })
            }
            Request::Lookup { keys } => {
                let rows = &log.states.last().expect("the empty one").1;
                Outcome::Ok(Answer::Found { rows: keys.iter().map(|key| rows.get(key).cloned()).collect() })
            }
            Request::Scan { prefix } => {
                let rows = &log.states.last().expect("the empty one").1;
                let limit = 1 + self.draws.below(6) as usize;
                let all: Vec<Row> = rows.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, row)| row.clone()).collect();
                let last = all.get(limit - 1).filter(|_| all.len() > limit).map(|row| vec![row[0].clone()]);
                let rows = all.into_iter().take(limit).collect();
                Outcome::Ok(Answer::Scanned { rows, last, place: self.draws.percent(50).then_some(log.end) })
            }
            Request::Count => {
                let rows = log.states.last().expect("the empty one").1.len() as u64;
                Outcome::Ok(Answer::Counted { rows })
            }
        };
        if self.flights[at].is_given_up {
            self.flights.swap_remove(at);
        } else {
            self.flights[at].done = Some(outcome);
        }
    }

    fn answer(&mut self) {
        if let Some(at) = self.pick(|flight| flight.done.is_some()) {
            self.answer_one(at);
        }
    }

    fn answer_one(&mut self, at: usize) {
        let Flight { op, client, request, done, .. } = self.flights.swap_remove(at);
        let outcome = done.expect("it is done");
        match (&mut self.clients[client].work, &request, &outcome) {
            (
                Work::Write { open, .. },
                Request::Append { sequence, .. } | Request::Put { sequence, .. },
                Outcome::Ok(_) | Outcome::Fail(_),
            ) => {
                if matches!(outcome, Outcome::Ok(_)) {
                    open.remove(sequence);
                } else if let Some((_, under_way)) = open.get_mut(sequence) {
                    *under_way = false;
                }
            }
            (Work::Read { next, .. }, _, Outcome::Ok(Answer::Fetched { rows, .. })) => {
                *next = rows.last().map_or(*next, |row| row.offset + 1);
                if self.sight == Sight::All && self.draws.percent(5) {
                    *next = self.draws.below(*next as u64 + 1) as i64;
                }
            }
            _ => {}
        }
        self.events.push(Event::Return { at: self.now, op, outcome });
    }

    /// The client stops waiting; the request may be lost, done, or still take effect later.
    fn give_up(&mut self) {
        if let Some(at) = self.pick(|flight| !flight.is_given_up) {
            self.give_up_one(at);
        }
    }

    fn give_up_one(&mut self, at: usize) {
        let Flight { op, client, bucket, request, .. } = &self.flights[at];
        let (op, client, bucket) = (*op, *client, *bucket);
        self.events.push(Event::Return { at: self.now, op, outcome: Outcome::Unknown("timeout".into()) });
        let rows_only = self.sight == Sight::Rows;
        if let (Work::Write { open, unclear, .. }, Request::Append { sequence, .. } | Request::Put { sequence, .. }) =
            (&mut self.clients[client].work, request)
        {
            if let Request::Put { batch, .. } = request {
                unclear.extend(batch.ops.iter().map(|op| match op {
                    Op::Upsert(row) => vec![row[0].clone()],
                    Op::Delete(key) => key.clone(),
                }));
            }
            match rows_only {
                true => drop(open.remove(sequence)),
                false => open.get_mut(sequence).expect("it is open").1 = false,
            }
        }
        // Whoever sees rows only goes on with the next; what is late would come out of order, so it is never, or now.
        let is_late = self.draws.percent(50);
        match (self.flights[at].done.is_some(), rows_only, is_late) {
            (false, false, true) => self.flights[at].is_given_up = true,
            (false, true, true) => {
                self.flights[at].is_given_up = true;
                self.apply_one(at);
            }
            _ => drop(self.flights.swap_remove(at)),
        }
        let _ = bucket;
    }

    /// A writer ends; what it had under way has no answer at all. Another starts.
    fn crash_client(&mut self) {
        let writers = |client: &Client| matches!(client.work, Work::Write { .. });
        let writers: Vec<usize> = (0..self.clients.len()).filter(|at| writers(&self.clients[*at])).collect();
        let client = *self.draws.pick(&writers).expect("there are writers");
        let bucket = self.clients[client].bucket;
        let refused = self.draws.percent(40);
        if refused && self.sight == Sight::All {
            self.refuse(client);
        }
        for flight in self.flights.iter_mut().filter(|flight| flight.client == client) {
            flight.is_given_up = true;
        }
        let late = self.draws.percent(50) && self.sight == Sight::All;
        self.flights.retain(|flight| flight.client != client || flight.done.is_none() && late);
        // Its place is taken: flights point at it.
        let (process, writer) = (self.id(), self.id());
        self.clients[client].process = process;
        self.clients[client].work = Work::Write { writer, next: 0, open: BTreeMap::new(), unclear: BTreeSet::new() };
        let _ = bucket;
    }

    /// A batch of a writer of its own, which the server's contract proves absent.
    fn refuse(&mut self, client: usize) {
        let (writer, op, bucket) = (self.id(), self.id(), self.clients[client].bucket);
        let (process, at) = (self.clients[client].process, self.now);
        let request = match &self.logs[bucket as usize].table {
            None => Request::Append { writer, sequence: 0, rows: 2 },
            Some(table) => {
                let is_numbered = self.logs[bucket as usize].numbered.is_some();
                Request::Put { writer, sequence: 0, batch: draw_batch(&mut self.draws, table, is_numbered, writer, 0) }
            }
        };
        self.events.push(Event::Invoke { at, op, process, bucket: Some(bucket), request });
        self.events.push(Event::Return { at, op, outcome: Outcome::Fail("no such schema".into()) });
    }

    /// A node dies: whoever waits for it hears nothing.
    fn strike(&mut self) {
        let (at, node) = (self.now, 1 + self.draws.below(NODES));
        self.events.push(Event::Fault { at, what: "kill".into(), nodes: vec![node], quorum_left: true });
        self.term += 1;
        self.leader = 1 + self.draws.below(NODES);
        for at in (0..self.flights.len()).rev() {
            if !self.flights[at].is_given_up && self.draws.percent(50) {
                self.give_up_one(at);
            }
        }
    }

    fn show_rows(&mut self) {
        let bucket = self.draws.below(2) as usize;
        if self.logs[bucket].table.is_none() || self.sight == Sight::Rows {
            return;
        }
        let node = 1 + self.draws.below(NODES);
        let by = if self.draws.percent(30) { Source::Crashed(node) } else { Source::Replica(node) };
        let back = self.draws.below(3) as usize;
        let states = &self.logs[bucket].states;
        let (end, rows) = &states[states.len().saturating_sub(1 + back)];
        self.events.push(Event::Rows {
            at: self.now,
            by,
            bucket: bucket as Bucket,
            log_end: Some(*end),
            count: Some(rows.len() as u64),
            rows: Ok(rows.values().cloned().collect()),
        });
    }

    fn believe(&mut self) {
        let (at, node) = (self.now, 1 + self.draws.below(NODES));
        self.events.push(Event::Belief { at, node, group: 7, term: self.term, leader: self.leader });
    }

    /// Everything is mended: every writer that lives gets its batches through, and all logs are read.
    fn settle(&mut self) {
        while let Some(at) = self.flights.iter().position(|flight| flight.is_given_up) {
            if self.draws.percent(50) {
                self.apply_one(at);
            } else {
                self.flights.swap_remove(at);
            }
        }
        for _ in 0..1000 {
            self.now += 1 + self.draws.below(3);
            let open = |client: &Client| match &client.work {
                Work::Write { open, .. } => open.values().find(|(_, under_way)| !under_way).cloned(),
                _ => None,
            };
            let again = (0..self.clients.len()).find_map(|at| Some((at, open(&self.clients[at])?)));
            if let Some((client, (request, _))) = again {
                let Work::Write { open, .. } = &mut self.clients[client].work else { continue };
                if let Request::Append { sequence, .. } | Request::Put { sequence, .. } = &request {
                    open.get_mut(sequence).expect("it is open").1 = true;
                }
                self.invoke(client, self.clients[client].bucket, request);
            }
            // In order: nothing overtakes any more.
            let Some(first) = (0..self.flights.len()).min_by_key(|at| self.flights[*at].op) else { break };
            if self.flights[first].done.is_none() {
                self.apply_one(first);
            }
            self.now += 1;
            self.answer_one(first);
        }
        self.events.push(Event::Progress { at: self.now, what: "every batch is acked".into(), kept: true });
        self.dump();
    }

    fn dump(&mut self) {
        for (bucket, log) in (0..).zip(&self.logs) {
            let readers = self.draws.percent(50).then_some(Source::Reader);
            let sources: Vec<Source> = match self.sight {
                Sight::All => (1..=NODES).map(Source::Replica).chain(readers).collect(),
                Sight::Rows => vec![Source::Reader],
            };
            for by in sources {
                let mut batches = log.batches.clone();
                match (self.sight, by) {
                    (Sight::Rows, _) => batches = log.single(),
                    (_, Source::Reader) => batches.iter_mut().for_each(|batch| batch.digest = None),
                    _ => {}
                }
                self.events.push(Event::Log { by, bucket, start: 0, end: log.end, batches: Ok(batches) });
            }
            if log.table.is_some() {
                let rows = log.states.last().expect("the empty one").1.values().cloned().collect();
                let (at, by) = (self.now, Source::Reader);
                self.events.push(Event::Rows { at, by, bucket, log_end: None, count: None, rows: Ok(rows) });
            }
        }
    }
}

impl Log {
    fn write(&mut self, writer: Writer, sequence: i64, request: &Request, sight: Sight) -> Outcome {
        let next = self.next.entry(writer).or_insert(if sight == Sight::All { 0 } else { sequence });
        if let Some(place) = self.places.get(&(writer, sequence)).copied() {
            return self.acked(place, sight);
        }
        if sequence != *next && sight == Sight::All {
            return Outcome::Fail("out of order".into());
        }
        *next = sequence + 1;
        let mut rows = self.states.last().expect("the empty one").1.clone();
        let (count, changes) = match request {
            Request::Append { rows, .. } => (*rows, Vec::new()),
            Request::Put { batch, .. } => {
                let changes = self.run(&mut rows, batch);
                (changes.len().max(1) as u32, changes)
            }
            _ => (0, Vec::new()),
        };
        let stamps = (0..count).map(|index| Stamp::By(Value { writer, sequence, index })).collect();
        let digest = Some(writer << 32 | sequence as u64);
        self.batches.push(Logged { base_offset: self.end, digest, stamps, changes });
        let base = self.end;
        self.end += i64::from(count);
        self.states.push((self.end, rows));
        let place = if self.table.is_some() { self.end } else { base };
        self.places.insert((writer, sequence), place);
        self.acked(place, sight)
    }

    /// New rows get a number.
    fn run(&mut self, rows: &mut Rows, batch: &Batch) -> Vec<Change> {
        let table = self.table.as_ref().expect("puts go to tables");
        let Some(next) = &mut self.numbered else { return table.run(rows, batch) };
        let mut all = Vec::new();
        for op in &batch.ops {
            let mut changes = table.run(rows, &Batch { ops: vec![op.clone()], columns: batch.columns.clone() });
            for change in changes.iter_mut().filter(|change| change.kind == Kind::Insert) {
                change.row[NUMBERS] = Cell::Int(*next);
                rows.insert(table.key(&change.row), change.row.clone());
                *next += 1;
            }
            all.extend(changes);
        }
        all
    }

    fn acked(&self, place: i64, sight: Sight) -> Outcome {
        let place = (sight == Sight::All).then_some(place);
        Outcome::Ok(match self.table {
            Some(_) => Answer::Put { end_offset: place },
            None => Answer::Appended { base_offset: place },
        })
    }

    /// Row by row; of a changelog, without a hint whose they are.
    fn single(&self) -> Vec<Logged> {
        let rows = self.rows(Sight::Rows).into_iter().map(|row| Logged {
            base_offset: row.offset,
            digest: None,
            stamps: vec![row.stamp],
            changes: row.change.into_iter().collect(),
        });
        rows.collect()
    }

    fn rows(&self, sight: Sight) -> Vec<Seen> {
        let is_untold = self.table.is_some() && sight == Sight::Rows;
        let of = |batch: &Logged| {
            let changes: Vec<Option<Change>> = (0..batch.stamps.len()).map(|at| batch.changes.get(at).cloned()).collect();
            let rows = batch.stamps.iter().cloned().zip(changes).zip(batch.base_offset..);
            let stamped = |stamp| if is_untold { Stamp::Untold } else { stamp };
            rows.map(|((stamp, change), offset)| Seen { offset, stamp: stamped(stamp), change }).collect::<Vec<_>>()
        };
        self.batches.iter().flat_map(of).collect()
    }
}

fn draw_batch(draws: &mut Draws, table: &Table, is_numbered: bool, writer: Writer, sequence: i64) -> Batch {
    let mut op = |index: u64| {
        let key = Cell::Int(draws.below(KEYS) as i64);
        if draws.percent(25) {
            return Op::Delete(vec![key]);
        }
        let text = Cell::Text(format!("w{writer}#{sequence}.{index}"));
        let mut row: Row = vec![key, Cell::Int(draws.below(4) as i64), text];
        row.extend(is_numbered.then_some(Cell::Null));
        Op::Upsert(row)
    };
    let ops = (0..1 + sequence as u64 % 3).map(&mut op).collect();
    let partial = matches!(table.engine, Engine::Replace) && draws.percent(20);
    let all = is_numbered.then(|| vec![0, 1, 2]);
    Batch { ops, columns: partial.then(|| vec![0, 1]).or(all) }
}

/// `+I` and friends, for mutations.
pub fn is_after(change: &Change) -> bool {
    matches!(change.kind, Kind::Insert | Kind::UpdateAfter)
}
