//! A plan as lines of text: what is done, to what, and what it is, one under the other; the last line says what to do
//! next.

use super::compare::counted;
use super::{Plan, StepKind, WarningKind};

impl StepKind {
    /// Returns the word for it.
    pub fn verb(self) -> &'static str {
        match self {
            StepKind::CreateTable | StepKind::CreateIndex => "create",
            StepKind::AddColumn => "add",
        }
    }
}

impl WarningKind {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            WarningKind::Incompatible => "differs",
            WarningKind::Drift => "kept",
            WarningKind::Missing => "missing",
            WarningKind::Absent => "absent",
            WarningKind::Note => "note",
        }
    }
}

impl Plan {
    /// Returns the plan as plain lines, each ended.
    pub fn render(&self) -> String {
        let steps = self.steps.iter().map(|step| (step.kind.verb(), &step.name, &step.what, None));
        let warnings = self
            .warnings
            .iter()
            .map(|warning| (warning.kind.word(), &warning.name, &warning.what, Some(&warning.sql)));
        let lines: Vec<_> = steps.chain(warnings).collect();
        let width = |text: &str| text.chars().count();
        let words = lines.iter().map(|(word, ..)| width(word)).max().unwrap_or(0);
        // A name may be long; what comes after it goes to where most can begin.
        let names = lines.iter().map(|(_, name, ..)| width(name).min(40)).max().unwrap_or(0);
        let mut out = String::new();
        for (word, name, what, sql) in lines {
            let name = format!("{name}{}", " ".repeat(names.saturating_sub(width(name))));
            out.push_str(&format!("{word:words$}  {name}  {what}\n"));
            for statement in sql.into_iter().flatten() {
                out.push_str(&format!("{:words$}    {statement}\n", ""));
            }
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// Returns the last line: what there is to do, and that nothing else will be done.
    fn summary(&self) -> String {
        let tables = counted(self.tables, "table");
        let is_warning = |kind: WarningKind| kind != WarningKind::Note;
        let warnings = self.warnings.iter().filter(|warning| is_warning(warning.kind)).count();
        let steps = match self.steps.len() {
            0 => format!("{tables} declared, nothing to create"),
            steps => format!("{tables} declared, {steps} to create"),
        };
        match warnings {
            0 => steps,
            1 => format!("{steps}; 1 warning, which Convoy leaves to you"),
            _ => format!("{steps}; {warnings} warnings, which Convoy leaves to you"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, Warning};
    use super::*;

    #[test]
    fn lines_are_aligned() {
        let plan = Plan {
            tables: 2,
            steps: vec![Step {
                kind: StepKind::AddColumn,
                name: "users.näme".into(),
                what: "column string".into(),
                statements: vec![],
            }],
            warnings: vec![Warning {
                kind: WarningKind::Drift,
                name: "old".into(),
                what: "declared no longer".into(),
                sql: vec!["drop table \"old\";".into()],
            }],
        };
        assert_eq!(
            plan.render(),
            "add   users.näme  column string\n\
             kept  old         declared no longer\n\
             \x20       drop table \"old\";\n\
             2 tables declared, 1 to create; 1 warning, which Convoy leaves to you\n"
        );
    }
}
