//! What the database answers: facts about statements, and results at a snapshot.

use super::{Panel, World};
use convoy_engine::{
    FunctionAnswer, FunctionFacts, FunctionRead, OutputColumn, ParamType, QueryRead, ReadRows,
    StatementFacts,
};
use convoy_types::{Collation, PgType};

impl World {
    pub fn facts(&self, panel: Panel) -> StatementFacts {
        let column = |(name, oid): &(&str, u32)| OutputColumn {
            name: (*name).to_owned(),
            type_oid: *oid,
            type_name: if *oid == 20 { "int8" } else { "int4" }.to_owned(),
            ty: PgType::from_oid(*oid),
        };
        let param = match panel {
            Panel::LinkedRow => {
                ParamType { type_oid: 20, type_name: "bigint".to_owned(), ty: PgType::Int8 }
            }
            _ => ParamType { type_oid: 23, type_name: "integer".to_owned(), ty: PgType::Int4 },
        };
        let function = |name: &str| FunctionFacts {
            name: name.to_owned(),
            namespace: "pg_catalog".to_owned(),
            volatile: false,
            aggregate: true,
            stable: false,
        };
        StatementFacts {
            params: if panel.has_parameter() { vec![param] } else { Vec::new() },
            columns: panel.columns().iter().map(column).collect(),
            tables: vec![self.table.clone()],
            functions: vec![function("count"), function("sum")],
            default_collation: Collation::ByteOrder,
            server_version_num: 150_018,
        }
    }

    /// Runs a function at a snapshot.
    pub fn run(&self, shown: &[bool], function: &FunctionRead) -> FunctionAnswer {
        let items = self.items_after(|at, _| shown.get(at).copied().unwrap_or(false));
        let grp = function.params[0].as_deref().and_then(|grp| grp.parse().ok());
        Panel::run(&items, grp.expect("a group"))
    }

    /// Reads one query's result at a snapshot.
    pub fn read(&self, shown: &[bool], query: &QueryRead) -> ReadRows {
        let items = self.items_after(|at, _| shown.get(at).copied().unwrap_or(false));
        let grp =
            query.params.first().and_then(|param| param.as_deref()?.parse().ok()).unwrap_or(0);
        let sql = &*query.statement.sql;
        if sql.contains("count(*))::") {
            let panel = if sql.contains("sum(") { Panel::Sum } else { Panel::Groups };
            return panel.read_groups(&items, grp).into_iter().collect();
        }
        let panel = match sql {
            sql if sql.contains("left join items") => Panel::Joined,
            sql if sql.contains("join items") => Panel::TopJoined,
            sql if sql.contains("sum(val)") => Panel::Sum,
            sql if sql.contains("group by grp") => Panel::Groups,
            sql if sql.to_lowercase().contains("limit") => Panel::Top,
            _ => Panel::Group,
        };
        panel.read(&items, grp).into_iter().collect()
    }
}
