//! What the engine asks of its database, until somebody answers.

use super::Panel;
use convoy_engine::{
    CastId, CastRequest, Database, DescribeId, FunctionRead, ProbeId, ProbeKind, QueryRead, ReadId,
    Statement,
};
use convoy_types::RelationId;
use rand::Rng;
use rand::rngs::SmallRng;
use std::sync::{Arc, Mutex};

/// Something the engine asked for.
#[derive(Debug)]
pub enum Question {
    Describe(DescribeId, Panel),
    Cast(CastId, Vec<CastRequest>),
    OpenRead(ReadId),
    TakeSnapshot(ReadId),
    Run(ReadId, Vec<QueryRead>, Vec<FunctionRead>),
    Probe(ProbeId),
}

impl Question {
    /// Returns the read that it is part of.
    fn read(&self) -> Option<ReadId> {
        match self {
            Question::OpenRead(id) | Question::TakeSnapshot(id) | Question::Run(id, ..) => {
                Some(*id)
            }
            Question::Describe(..) | Question::Cast(..) | Question::Probe(_) => None,
        }
    }
}

/// What the engine asked and nobody answered yet.
#[derive(Clone, Default)]
pub struct Questions {
    asked: Arc<Mutex<Vec<Question>>>,
    closed: Arc<Mutex<Vec<ReadId>>>,
}

impl Questions {
    pub fn take(&self, random: &mut SmallRng) -> Option<Question> {
        let mut questions = self.asked.lock().expect("no panic under it");
        let len = questions.len();
        (len > 0).then(|| questions.remove(random.random_range(0..len)))
    }

    /// Takes a probe out, if one is asked for.
    pub fn take_probe(&self) -> Option<ProbeId> {
        let mut questions = self.asked.lock().expect("no panic under it");
        let probe = |question: &Question| matches!(question, Question::Probe(_));
        let at = questions.iter().position(probe)?;
        match questions.remove(at) {
            Question::Probe(id) => Some(id),
            _ => None,
        }
    }

    /// Takes out which reads were given up since the last time.
    pub fn take_closed(&self) -> Vec<ReadId> {
        std::mem::take(&mut *self.closed.lock().expect("no panic under it"))
    }

    pub fn is_empty(&self) -> bool {
        self.asked.lock().expect("no panic under it").is_empty()
    }

    fn push(&self, question: Question) {
        self.asked.lock().expect("no panic under it").push(question);
    }
}

impl Database for Questions {
    fn describe(&mut self, id: DescribeId, statement: &Arc<Statement>) {
        let panel = Panel::DESCRIBED
            .into_iter()
            .find(|panel| statement.text.ends_with(panel.sql()))
            .expect("one of the panels");
        self.push(Question::Describe(id, panel));
    }

    fn cast(&mut self, id: CastId, values: Vec<CastRequest>) {
        self.push(Question::Cast(id, values));
    }

    fn open_read(&mut self, id: ReadId, _: Vec<RelationId>) {
        self.push(Question::OpenRead(id));
    }

    fn take_snapshot(&mut self, id: ReadId) {
        self.push(Question::TakeSnapshot(id));
    }

    fn run(&mut self, id: ReadId, queries: Vec<QueryRead>, functions: Vec<FunctionRead>) {
        self.push(Question::Run(id, queries, functions));
    }

    fn close_read(&mut self, id: ReadId) {
        self.asked
            .lock()
            .expect("no panic under it")
            .retain(|question| question.read() != Some(id));
        self.closed.lock().expect("no panic under it").push(id);
    }

    fn flush_wal(&mut self) {}

    fn probe_snapshot(&mut self, id: ProbeId, _: ProbeKind) {
        self.push(Question::Probe(id));
    }

    fn watch(&mut self, _: Vec<RelationId>) {}
}
