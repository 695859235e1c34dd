//! What is so at each point of the engine's line, and whether a transition says so.
//!
//! Between two beginnings of the stream, an *epoch*, the line is the transactions that the engine says it has applied,
//! upon what was there when the epoch began. Transactions from before the slot that were not visible then (*late* ones)
//! may come to be seen at any point: in all results of a session at once, and for good.

use super::clients::{Client, Sent, Wish};
use super::schedule::Schedule;
use crate::world::{Commit, Items, Panel, World};
use convoy_engine::{IDENTITY_SUB, Observer, Position, Snapshot, Update, UpdateKind};
use convoy_types::{FullXid, Lsn, Transaction};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The transactions in the order in which the engine applied them, by their numbers.
#[derive(Clone, Default)]
pub struct Applied(Arc<Mutex<Vec<u64>>>);

impl Observer for Applied {
    fn applied(&mut self, position: Position, _: FullXid, transaction: &Transaction) {
        let mut applied = self.0.lock().expect("no panic under it");
        applied.push(u64::try_from(transaction.commit_time.0).expect("a number of ours"));
        assert_eq!(position.0, applied.len() as u64);
    }

    fn closed(&mut self, _: Position, _: &Snapshot) {}
}

/// From one beginning of the stream to the next.
struct Epoch {
    /// How many transactions had been applied when it began.
    from: usize,
    /// The transactions that were there when it began and that its stream does not bring.
    before: BTreeSet<u64>,
    /// Those of them that were not visible then.
    late: Vec<u64>,
    /// The rows at each point, for each set of late transactions, which are bits.
    rows: Vec<Vec<Items>>,
    /// At which point a transaction was applied.
    position_of: HashMap<u64, usize>,
    /// Whether nothing may be applied before it is visible.
    waits_for_visibility: bool,
}

/// What is so.
pub struct Truth {
    applied: Applied,
    epochs: Vec<Epoch>,
    epoch: Arc<AtomicUsize>,
}

impl Truth {
    pub fn new(applied: Applied) -> Self {
        Truth { applied, epochs: Vec::new(), epoch: Arc::default() }
    }

    /// Returns the number of the present epoch, as it will be.
    pub fn epoch_shared(&self) -> Arc<AtomicUsize> {
        self.epoch.clone()
    }

    /// Begins an epoch, whose stream brings none of these transactions. Returns how many are late.
    pub fn begin(&mut self, world: &World, before: BTreeSet<u64>, may_change: bool) -> usize {
        let from = self.applied.0.lock().expect("no panic under it").len();
        let is_before = |commit: &&Commit| before.contains(&commit.serial);
        let late = world.commits.iter().filter(is_before).filter(|commit| !commit.is_visible);
        let late: Vec<u64> = late.map(|commit| commit.serial).collect();
        let rows = rows_before(world, &before, &late);
        let (position_of, late_len) = (HashMap::new(), late.len());
        let waits_for_visibility = world.synchronous_standbys && !may_change;
        self.epochs.push(Epoch { from, before, late, rows, position_of, waits_for_visibility });
        self.epoch.store(self.epochs.len() - 1, Ordering::Relaxed);
        late_len
    }

    /// Notes that the engine has let a transaction go that came before it could say what is visible.
    pub fn let_go(&mut self, world: &World, end_lsn: Lsn) {
        let Some(epoch) = self.epochs.last_mut() else { return };
        let gone = world.commits.iter().filter(|commit| commit.end_lsn == end_lsn);
        epoch.before.extend(gone.map(|commit| commit.serial));
        epoch.rows = rows_before(world, &epoch.before, &epoch.late);
    }

    /// Takes what was applied since the last time.
    fn catch_up(&mut self, world: &World, seed: u64, is_traced: bool) {
        let applied = self.applied.0.lock().expect("no panic under it");
        let Some(epoch) = self.epochs.last_mut() else { return };
        let known = epoch.from + epoch.rows[0].len() - 1;
        for (position, serial) in applied.iter().enumerate().skip(known) {
            let commit = world.commit_of(*serial);
            let commit = commit
                .unwrap_or_else(|| panic!("seed {seed}: {serial} was applied, and is nowhere"));
            assert!(
                !epoch.before.contains(serial),
                "seed {seed}: {serial} is from before the slot"
            );
            let twice = epoch.position_of.insert(*serial, position + 1);
            assert_eq!(twice, None, "seed {seed}: {serial} was applied twice");
            assert!(
                commit.is_visible || !epoch.waits_for_visibility,
                "seed {seed}: {serial} was applied before it was visible"
            );
            if is_traced {
                eprintln!("  applied {serial}, xid {}, as {}", commit.xid, position + 1);
            }
            for rows in &mut epoch.rows {
                let mut items = rows.last().expect("never empty").clone();
                commit.apply(&mut items);
                rows.push(items);
            }
        }
    }
}

impl Truth {
    /// Returns whether a transaction is in at a point of an epoch; none where either may be.
    pub fn contains(&self, epoch: usize, serial: u64, position: usize) -> Option<bool> {
        self.epochs[epoch].has(serial, position)
    }

    /// Returns whether a transaction had been applied by a point of an epoch, in it or in one before.
    pub fn is_applied(&self, epoch: usize, serial: u64, position: usize) -> bool {
        let (present, before) = self.epochs[..=epoch].split_last().expect("it has begun");
        present.position_of.get(&serial).is_some_and(|at| *at <= position)
            || before.iter().any(|before| before.position_of.contains_key(&serial))
    }

    /// Returns whether the stream has ever brought a transaction that was applied.
    pub fn came(&self, serial: u64) -> bool {
        self.epochs.iter().any(|epoch| epoch.position_of.contains_key(&serial))
    }

    /// Returns the bit of a late transaction; none of another.
    pub fn late_bit(&self, epoch: usize, serial: u64) -> usize {
        let late = self.epochs[epoch].late.iter().position(|late| *late == serial);
        late.map_or(0, |at| 1 << at)
    }

    /// Returns whether it was so at some point of the line, not after one in an epoch, where all of these transactions were
    /// in; what is shown of a stale result may be from an epoch before.
    fn was_so(
        &self,
        (epoch, up_to): (usize, usize),
        promised: &[u64],
        is_it: impl Fn(&Items) -> bool,
    ) -> bool {
        let was_so_in = |of_epoch: &Epoch| {
            let first = promised.iter().filter_map(|serial| of_epoch.position_of.get(serial)).max();
            let from = of_epoch.from;
            let first = first.map_or(0, |first| first - from);
            let points = |rows: &Vec<Items>| {
                let points = rows.iter().take((up_to + 1).saturating_sub(from)).skip(first);
                points.into_iter().any(&is_it)
            };
            of_epoch.rows.iter().any(points)
        };
        self.epochs[..=epoch].iter().rev().any(was_so_in)
    }
}

/// Returns the rows after these transactions, for each set of those of them that are late.
fn rows_before(world: &World, before: &BTreeSet<u64>, late: &[u64]) -> Vec<Vec<Items>> {
    let rows = |shown: usize| {
        let is_left_out = |serial: u64| {
            late.iter().position(|late| *late == serial).is_some_and(|at| shown & (1 << at) == 0)
        };
        let is_in =
            |commit: &Commit| before.contains(&commit.serial) && !is_left_out(commit.serial);
        vec![world.items_after(|_, commit| is_in(commit))]
    };
    (0..1 << late.len()).map(rows).collect()
}

impl Epoch {
    /// Returns whether a transaction is in at a point; none where either may be.
    fn has(&self, serial: u64, position: usize) -> Option<bool> {
        if self.late.contains(&serial) {
            return None;
        }
        let is_applied = || self.position_of.get(&serial).is_some_and(|at| *at <= position);
        Some(self.before.contains(&serial) || is_applied())
    }
}

impl Schedule {
    /// Begins an epoch with the slot that there is.
    pub fn begin_epoch(&mut self) {
        let before = self.world.before_stream();
        self.seen.late += self.truth.begin(&self.world, before, self.temper.standbys_change);
        self.stream.begin();
        self.handle(convoy_engine::Event::ReplicationStarted);
    }

    pub fn check_applied(&mut self) {
        self.truth.catch_up(&self.world, self.seed, self.is_traced);
    }

    pub fn check(&mut self, at: usize, sent: &Sent) {
        let seed = self.seed;
        let (epoch, transition) = (sent.epoch, &sent.transition);
        self.trace(|schedule| {
            let (client, position) = (schedule.clients[at].id.0, transition.position.0);
            let names = transition.updates.iter().map(named).collect::<Vec<_>>();
            format!(
                "  session {client} reads {} at {position}: {} reflects {:?}",
                transition.lsn,
                names.join(", "),
                transition.reflects
            )
        });
        for update in &transition.updates {
            let is_stale = |update: &Update| matches!(update.kind, UpdateKind::Stale(_));
            let alike = transition
                .updates
                .iter()
                .filter(|other| other.sub == update.sub && is_stale(other) == is_stale(update));
            assert_eq!(alike.count(), 1, "seed {seed}: {} is named twice", update.sub);
            match update.kind {
                UpdateKind::Error { .. } => self.seen.errors += 1,
                UpdateKind::Unchanged => self.seen.unchanged += 1,
                _ => {}
            }
        }
        let shown_before = ShownBefore::of(&self.clients[at], sent);
        let client = &mut self.clients[at];
        if client.epoch != epoch {
            (client.epoch, client.possible) = (epoch, vec![0]);
        }
        for update in &transition.updates {
            if let UpdateKind::Error { error, .. } = &update.kind
                && error.code == convoy_engine::ErrorCode::LimitExceeded
            {
                self.seen.refused += 1;
            }
            client.apply(&update.sub, &update.kind, &mut self.digests);
        }
        assert!(transition.lsn >= client.lsn, "seed {seed}: lsn went back");
        client.lsn = transition.lsn;
        let late = self.check_reflects(at, sent);
        self.check_stale(at, sent);
        let client = &mut self.clients[at];
        if sent.is_final_error() {
            let reflects = &transition.reflects;
            assert!(reflects.is_empty(), "seed {seed}: {reflects:?} are not contained by an error");
            return;
        }
        client.inbox.note_read(transition.lsn);
        self.check_committed_at(at, sent, &shown_before);
        let client = &self.clients[at];
        let number = epoch;
        let epoch = &self.truth.epochs[number];
        let position = usize::try_from(transition.position.0).expect("small");
        // A slot that was found begins with what has been before, below what was promised then: who is shown nothing of
        // it has nothing that could be other than promised.
        let promised = if client.is_shown_anything() { transition.lsn } else { Lsn(0) };
        for commit in self.world.commits.iter().filter(|commit| commit.end_lsn <= promised) {
            let is_in = epoch.has(commit.serial, position).unwrap_or(true);
            assert!(is_in, "seed {seed}: the label promises {}, which is not in", commit.serial);
        }
        // What is told of a stale result is of another time.
        let is_stale = |update: &Update| matches!(update.kind, UpdateKind::Stale(_));
        let has_stale = transition.updates.iter().any(is_stale);
        if let Some(committed_at) = transition.committed_at.filter(|_| !has_stale) {
            let newest = u64::try_from(committed_at.0).expect("a number of ours");
            let is_in = epoch.has(newest, position).unwrap_or(true);
            let is_in = is_in || !client.is_shown_anything();
            assert!(is_in, "seed {seed}: it names the time of {newest}, which is not in");
        }
        let mut possible = Vec::new();
        let mut complaint = None;
        let mut seen_meanings: HashMap<Arc<str>, usize> = HashMap::new();
        for (shown, rows) in epoch.rows.iter().enumerate() {
            let items = &rows[position - epoch.from];
            match self.compare(at, items, &mut seen_meanings) {
                Ok(()) => possible.push(shown),
                Err(wrong) => complaint = Some(wrong),
            }
        }
        let client = &mut self.clients[at];
        // What is seen once stays, and so does a mutation that was named.
        possible.retain(|now| {
            late & !now == 0 && client.possible.iter().any(|before| before & !now == 0)
        });
        if possible.is_empty() {
            let wrong = complaint.unwrap_or_else(|| "what was seen is gone".to_owned());
            panic!("seed {seed}: {wrong} at {position}, in epoch {number}");
        }
        client.possible = possible;
        for (sub, at) in seen_meanings {
            // The least that it can be; it never goes back.
            if let Some((Wish::Name(_, meaning), _)) = client.subs.get_mut(&sub) {
                *meaning += at;
            }
        }
        let is_stale = |sub: &&Arc<str>| client.stale.get(*sub) == Some(&true);
        self.seen.stale += client.results.keys().filter(is_stale).count();
    }

    /// Holds the time that a transition names against the transactions that made it: those that changed what it changes,
    /// and the mutations that it names.
    fn check_committed_at(&mut self, at: usize, sent: &Sent, before: &ShownBefore) {
        let (seed, Sent { epoch: number, losses, transition }) = (self.seed, sent);
        let position = usize::try_from(transition.position.0).expect("small");
        let told_at = self.clients[at].at.replace((*number, position, *losses));
        let epoch = &self.truth.epochs[*number];
        let named =
            transition.committed_at.map(|at| u64::try_from(at.0).expect("a number of ours"));
        let is_mutation = |id: &Arc<str>| {
            let mutation = self.mutations.iter().find(|mutation| mutation.id == *id)?;
            mutation.serial().filter(|serial| epoch.position_of.contains_key(serial))
        };
        let mut newest = transition.reflects.iter().filter_map(is_mutation).max();
        // Whether all that is told is of the point where the session is, and of the one where it was.
        let from = told_at.filter(|(of, _, with)| of == number && with == losses);
        if let Some((_, from, _)) = from.filter(|_| epoch.late.is_empty()) {
            let serial_at = |position: usize| {
                let at = epoch.position_of.iter().find(|(_, at)| **at == position);
                at.map(|(serial, _)| *serial)
            };
            // Where it first was what it now is: those that come later may have changed it and changed it back.
            let made_by = |(sub, (panel, grp)): &(Arc<str>, (Panel, i32))| {
                let is_stale = self.clients[at].stale.get(sub) == Some(&true);
                let answer =
                    |position: usize| panel.answer(&epoch.rows[0][position - epoch.from], *grp);
                let (before, now) = (answer(from), answer(position));
                let mut later = from + 1..=position;
                let is_made = !is_stale && before != now;
                is_made
                    .then(|| later.find(|position| answer(*position) == now).and_then(serial_at))?
            };
            // What a client is not shown makes nothing. And of a row that left while nothing was held of a result, nobody
            // can tell that it was in it: where an older answer was told first, the newer one may name an earlier time.
            let is_whole = |sub: &Arc<str>| {
                let is_snapshot = |update: &Update| matches!(update.kind, UpdateKind::Snapshot(_));
                transition.updates.iter().any(|update| update.sub == *sub && is_snapshot(update))
            };
            let shown = before.shown.iter();
            let shown = shown.filter(|(sub, _)| **sub != *IDENTITY_SUB && !is_whole(sub));
            let made = shown.filter_map(made_by).max();
            newest = newest.max(made);
            // What a transition was written down for may have been ended before it was sent.
            let was_made = before.is_changed
                || !transition.reflects.is_empty()
                || self.clients[at].inbox.has_ended_any();
            assert!(
                was_made || named.is_none(),
                "seed {seed}: it names the time of {named:?}, and none made it"
            );
        }
        assert!(
            newest <= named,
            "seed {seed}: at {position} it names the time of {named:?}, and {newest:?} is in it"
        );
        self.seen.timed += usize::from(newest.is_some());
    }

    /// Holds what is said of stale results against what is shown of them.
    fn check_stale(&mut self, at: usize, sent: &Sent) {
        let (seed, Sent { epoch, losses, transition }) = (self.seed, sent);
        let position = usize::try_from(transition.position.0).expect("small");
        for (nth, update) in transition.updates.iter().enumerate() {
            let (client, sub) = (&mut self.clients[at], &update.sub);
            if **sub == *IDENTITY_SUB {
                // It holds its session from before its first answer, and no client hears of it.
                continue;
            }
            let UpdateKind::Stale(lsn) = update.kind else {
                client.stale_since.remove(sub);
                continue;
            };
            let label = transition.lsn;
            assert!(lsn <= label, "seed {seed}: at {label} {sub} is stale as of {lsn}");
            let said = client.stale_since.insert(sub.clone(), (lsn, *losses));
            // Said twice it is the same, or something was lost.
            assert!(
                said.is_none_or(|(before, with)| before == lsn || with < *losses),
                "seed {seed}: {sub} is stale as of {lsn}, and was so as of {said:?}"
            );
            let others = &transition.updates[nth + 1..];
            let is_last = others.iter().all(|other| other.sub != *sub);
            assert!(is_last, "seed {seed}: {sub} is stale, and then it is not");
            let is_open = client.in_error.contains(sub) || client.unanswered.contains(sub);
            let wish = client.subs.get(sub).copied();
            let rows = client.results.get(sub).filter(|_| !is_open);
            let (Some((wish, grp)), Some(rows)) = (wish, rows) else {
                // What was shown of it was lost, or it has ended meanwhile.
                let is_excused = *losses > 0 || wish.is_none();
                assert!(is_excused, "seed {seed}: {sub} is stale, and nothing is shown of it");
                continue;
            };
            if said.is_some() {
                // That it had come back may have been lost: it is of any time.
                continue;
            }
            let rows = rows.clone();
            let promised = self.world.commits.iter().filter(|commit| commit.end_lsn <= lsn);
            let promised: Vec<u64> = promised.map(|commit| commit.serial).collect();
            let is_it = |items: &Items| {
                let meanings = self.meanings(wish);
                meanings.iter().flatten().any(|panel| shows(&rows, panel.answer(items, grp)))
            };
            assert!(
                self.truth.was_so((*epoch, position), &promised, is_it),
                "seed {seed}: {sub} is stale as of {lsn}, and was never {rows:?} from there to {position}"
            );
        }
    }

    /// Returns what is shown to who wishes this.
    fn meanings(&self, wish: Wish) -> Cow<'_, [Option<Panel>]> {
        match wish {
            Wish::Panel(panel) => Cow::Owned(vec![Some(panel)]),
            Wish::Name(name, from) => Cow::Borrowed(&self.names[name][from..]),
        }
    }

    /// Compares all that a client has, and that is not stale, with these rows.
    fn compare(
        &self,
        at: usize,
        items: &Items,
        seen_meanings: &mut HashMap<Arc<str>, usize>,
    ) -> Result<(), String> {
        let client = &self.clients[at];
        let mut seen = Vec::new();
        for (sub, rows) in &client.results {
            let is_open = client.in_error.contains(sub) || client.unanswered.contains(sub);
            if is_open || client.stale.get(sub) == Some(&true) {
                continue;
            }
            let Some((wish, grp)) = client.subs.get(sub) else { continue };
            let meanings = self.meanings(*wish);
            let is_it = |panel: &Option<Panel>| {
                panel.is_some_and(|panel| shows(rows, panel.answer(items, *grp)))
            };
            let Some(at) = meanings.iter().position(is_it) else {
                let answers = meanings.iter().flatten().map(|panel| panel.answer(items, *grp));
                let answers: Vec<_> = answers.collect();
                return Err(format!("{sub}: {wish:?} of {grp} is {rows:?}, none of {answers:?}"));
            };
            if matches!(wish, Wish::Name(..)) {
                seen.push((sub.clone(), at));
            }
        }
        for (sub, at) in seen {
            seen_meanings.entry(sub).and_modify(|known| *known = at.min(*known)).or_insert(at);
        }
        Ok(())
    }
}

/// What a client was shown before a transition of what that names anew.
struct ShownBefore {
    /// The statements that had a result which was no error and not stale.
    shown: Vec<(Arc<str>, (Panel, i32))>,
    /// Whether the transition changes anything, apart from first answers, errors, and that something is stale or is not.
    is_changed: bool,
}

impl ShownBefore {
    fn of(client: &Client, sent: &Sent) -> ShownBefore {
        let (mut shown, mut is_changed) = (Vec::new(), false);
        for Update { sub, kind } in &sent.transition.updates {
            // Of what was lost nobody here knows what it was.
            let is_open = sent.losses == 0
                && (client.in_error.contains(sub) || client.unanswered.contains(sub));
            let brings_news = matches!(kind, UpdateKind::Snapshot(_) | UpdateKind::Diffs(_));
            if is_open || !brings_news {
                continue;
            }
            is_changed = true;
            // A change of a row below a limit is one of no result until those above it have gone.
            if let Some((Wish::Panel(panel), grp)) = client.subs.get(sub)
                && !matches!(panel, Panel::Top | Panel::TopJoined)
                && client.stale.get(sub) == Some(&false)
                && !client.in_error.contains(sub)
                && !client.unanswered.contains(sub)
            {
                shown.push((sub.clone(), (*panel, *grp)));
            }
        }
        ShownBefore { shown, is_changed }
    }
}

/// Returns whether rows show this answer.
pub fn shows(rows: &super::clients::Rows, answer: Vec<crate::world::TextRow>) -> bool {
    rows.len() == answer.len()
        && rows.iter().zip(&answer).all(|((_, cells), texts)| {
            let is_same = |(cell, text): (&String, &Option<String>)| {
                cell == text.as_deref().unwrap_or("null")
            };
            cells.len() == texts.len() && cells.iter().zip(texts).all(is_same)
        })
}

fn named(update: &Update) -> String {
    let what = match &update.kind {
        UpdateKind::Snapshot(snapshot) => format!("snapshot of {} rows", snapshot.value.rows.len()),
        UpdateKind::Diffs(diffs) => format!("{} diffs", diffs.len()),
        UpdateKind::Unchanged => "unchanged".to_owned(),
        UpdateKind::Stale(lsn) => format!("stale as of {lsn}"),
        UpdateKind::Error { error, last } => format!("error {error} (final: {last})"),
    };
    format!("{} {what}", update.sub)
}
