//! Columns of a table, in order, at one point of its evolution.

use super::data_type::{DataType, RowField, TypeKind};
use super::error::SchemaError;
use super::json::{self, Place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub comment: Option<String>,
    /// Aggregation merge engine only.
    pub agg_function: Option<AggFunction>,
    /// Unique in the schema, stable for ever; None only before a schema is made.
    pub id: Option<i32>,
}

/// How the aggregation merge engine combines old and new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggFunction {
    pub name: String,
    pub parameters: BTreeMap<String, String>,
}

/// At least one column; names unique and not blank; primary key columns exist and are not null; every column and nested field has a
/// unique id <= `highest_field_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schema {
    columns: Vec<Column>,
    primary_key: Vec<String>,
    auto_increment_column: Option<String>,
    highest_field_id: i32,
}

impl Column {
    pub fn new(name: impl Into<String>, data_type: impl Into<DataType>) -> Self {
        Self { name: name.into(), data_type: data_type.into(), comment: None, agg_function: None, id: None }
    }
}

impl Schema {
    /// A log table's schema of new columns; ids are assigned.
    pub fn new(columns: Vec<Column>) -> Result<Self, SchemaError> {
        Self::with_keys(columns, Vec::new(), None, None)
    }

    /// Checks everything. `primary_key` empty = none. Ids: all given or none; none: 0, 1, 2, ... depth first, nested fields included.
    pub fn with_keys(
        mut columns: Vec<Column>,
        primary_key: Vec<String>,
        auto_increment_column: Option<String>,
        highest_field_id: Option<i32>,
    ) -> Result<Self, SchemaError> {
        check_columns(&columns)?;
        for key in &primary_key {
            let column = columns.iter_mut().find(|column| column.name == *key);
            let column = column.ok_or_else(|| SchemaError::UnknownColumn { role: "primary key", column: key.clone() })?;
            column.data_type.nullable = false;
        }
        if let Some(name) = first_duplicate(primary_key.iter()) {
            return Err(SchemaError::Duplicate { what: "primary key column", name });
        }
        if let Some(name) = &auto_increment_column {
            check_auto_increment(name, &columns, &primary_key)?;
        }
        let highest = complete_ids(&mut columns)?;
        let highest_field_id = highest_field_id.unwrap_or(-1).max(highest);
        Ok(Self { columns, primary_key, auto_increment_column, highest_field_id })
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Empty for log tables.
    pub fn primary_key(&self) -> &[String] {
        &self.primary_key
    }

    pub fn has_primary_key(&self) -> bool {
        !self.primary_key.is_empty()
    }

    pub fn auto_increment_column(&self) -> Option<&str> {
        self.auto_increment_column.as_deref()
    }

    /// Highest id ever used, nested ones included; ids of new columns start after it.
    pub fn highest_field_id(&self) -> i32 {
        self.highest_field_id
    }

    /// The next schema: `column` appended at the end, with new ids.
    ///
    /// Errors: `ColumnExists`, `NewColumnNotNull`, `ReservedColumn`, `BlankName`, `BadFieldId` (ids used up).
    pub fn with_column(&self, mut column: Column) -> Result<Self, SchemaError> {
        if self.column(&column.name).is_some() {
            return Err(SchemaError::ColumnExists { column: column.name });
        }
        if !column.data_type.nullable {
            return Err(SchemaError::NewColumnNotNull { column: column.name });
        }
        if super::is_reserved_column(&column.name) {
            return Err(SchemaError::ReservedColumn { column: column.name });
        }
        let highest = assign_ids(&mut column, self.highest_field_id)?;
        let mut columns = self.columns.clone();
        columns.push(column);
        Self::with_keys(columns, self.primary_key.clone(), self.auto_increment_column.clone(), Some(highest))
    }

    /// Errors: `NotJson`, `Missing`, `WrongJson`, `OutOfRange`, `UnknownType`, and those of [`Schema::with_keys`].
    pub fn from_json(text: &[u8]) -> Result<Self, SchemaError> {
        Self::from_value(&json::parse(text)?, &Place::root("schema"))
    }

    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub(super) fn from_value(value: &Value, at: &Place) -> Result<Self, SchemaError> {
        let node = json::object(value, at)?;
        let at_columns = at.key("columns");
        let columns = json::array(json::required(node, at, "columns")?, &at_columns)?;
        let columns = columns.iter().enumerate().map(|(index, value)| Column::from_value(value, &at_columns.index(index)));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let names = |key| json::optional(node, key).map(|value| json::strings(value, &at.key(key))).transpose();
        let primary_key = names("primary_key")?;
        if primary_key.as_ref().is_some_and(Vec::is_empty) {
            return Err(SchemaError::EmptyPrimaryKey);
        }
        let mut auto_increment = names("auto_increment_column")?.unwrap_or_default().into_iter();
        let auto_increment_column = auto_increment.next();
        if let Some(name) = auto_increment.next() {
            return Err(SchemaError::Duplicate { what: "auto increment column", name });
        }
        let highest = json::integer_or(node, at, "highest_field_id", Some(-1), -1, i64::from(i32::MAX))?;
        Self::with_keys(columns, primary_key.unwrap_or_default(), auto_increment_column, Some(highest as i32))
    }

    pub(super) fn to_value(&self) -> Value {
        let mut node = Map::new();
        node.insert("version".to_owned(), json!(1));
        node.insert("columns".to_owned(), self.columns.iter().map(Column::to_value).collect());
        if !self.primary_key.is_empty() {
            node.insert("primary_key".to_owned(), json!(self.primary_key));
        }
        if let Some(column) = &self.auto_increment_column {
            node.insert("auto_increment_column".to_owned(), json!([column]));
        }
        node.insert("highest_field_id".to_owned(), json!(self.highest_field_id));
        Value::Object(node)
    }
}

impl TryFrom<String> for Schema {
    type Error = SchemaError;

    fn try_from(text: String) -> Result<Self, SchemaError> {
        Self::from_json(text.as_bytes())
    }
}

impl From<Schema> for String {
    fn from(schema: Schema) -> Self {
        schema.to_json()
    }
}

impl Column {
    fn from_value(value: &Value, at: &Place) -> Result<Self, SchemaError> {
        let node = json::object(value, at)?;
        let id = json::integer_or(node, at, "id", Some(-1), -1, i64::from(i32::MAX))?;
        let agg_function = json::optional(node, "agg_function");
        Ok(Self {
            name: json::string(json::required(node, at, "name")?, &at.key("name"))?.to_owned(),
            data_type: DataType::from_value(json::required(node, at, "data_type")?, &at.key("data_type"))?,
            comment: json::optional_string(node, at, "comment")?,
            agg_function: agg_function.map(|value| AggFunction::from_value(value, &at.key("agg_function"))).transpose()?,
            id: (id >= 0).then_some(id as i32),
        })
    }

    fn to_value(&self) -> Value {
        let mut node = Map::new();
        node.insert("name".to_owned(), json!(self.name));
        node.insert("data_type".to_owned(), self.data_type.to_value());
        if let Some(comment) = &self.comment {
            node.insert("comment".to_owned(), json!(comment));
        }
        if let Some(function) = &self.agg_function {
            node.insert("agg_function".to_owned(), function.to_value());
        }
        if let Some(id) = self.id {
            node.insert("id".to_owned(), json!(id));
        }
        Value::Object(node)
    }
}

impl AggFunction {
    fn from_value(value: &Value, at: &Place) -> Result<Self, SchemaError> {
        let node = json::object(value, at)?;
        let parameters = json::optional(node, "parameters");
        Ok(Self {
            name: json::string(json::required(node, at, "type")?, &at.key("type"))?.to_owned(),
            parameters: parameters.map(|value| json::string_map(value, &at.key("parameters"))).transpose()?.unwrap_or_default(),
        })
    }

    fn to_value(&self) -> Value {
        let mut node = Map::new();
        node.insert("type".to_owned(), json!(self.name));
        if !self.parameters.is_empty() {
            node.insert("parameters".to_owned(), json!(self.parameters));
        }
        Value::Object(node)
    }
}

fn first_duplicate<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(name.as_str())).cloned()
}

fn check_columns(columns: &[Column]) -> Result<(), SchemaError> {
    if columns.is_empty() {
        return Err(SchemaError::NoColumns);
    }
    if columns.iter().any(|column| column.name.trim().is_empty()) {
        return Err(SchemaError::BlankName);
    }
    match first_duplicate(columns.iter().map(|column| &column.name)) {
        Some(name) => Err(SchemaError::Duplicate { what: "column", name }),
        None => Ok(()),
    }
}

fn check_auto_increment(name: &str, columns: &[Column], primary_key: &[String]) -> Result<(), SchemaError> {
    let role = "auto increment column";
    let column = columns.iter().find(|column| column.name == name);
    let column = column.ok_or_else(|| SchemaError::UnknownColumn { role, column: name.to_owned() })?;
    if !matches!(column.data_type.kind, TypeKind::Int | TypeKind::BigInt) {
        let found = column.data_type.kind.root();
        return Err(SchemaError::WrongColumnType { role, column: name.to_owned(), expected: "INTEGER or BIGINT", found });
    }
    if primary_key.is_empty() {
        return Err(SchemaError::KeyRule { role, column: name.to_owned(), reason: "the table has no primary key" });
    }
    if primary_key.iter().any(|key| key == name) {
        return Err(SchemaError::KeyRule { role, column: name.to_owned(), reason: "it is part of the primary key" });
    }
    Ok(())
}

/// Checks given ids or assigns all of them. Returns the highest.
fn complete_ids(columns: &mut [Column]) -> Result<i32, SchemaError> {
    let given = columns.iter().filter(|column| column.id.is_some()).count();
    if given == 0 {
        return columns.iter_mut().try_fold(-1, |highest, column| assign_ids(column, highest));
    }
    if given < columns.len() {
        return Err(SchemaError::PartialIds);
    }
    let mut seen = BTreeSet::new();
    for column in columns {
        let mut take = |id: Option<i32>, name: &str| match id {
            Some(id) if seen.insert(id) => Ok(()),
            Some(id) => Err(SchemaError::BadFieldId { id, name: name.to_owned() }),
            None => Err(SchemaError::PartialIds),
        };
        take(column.id, &column.name)?;
        column.data_type.visit_fields(&mut |field: &mut RowField| take(field.field_id, &field.name))?;
    }
    Ok(seen.last().copied().unwrap_or(-1))
}

/// Gives `column` and all fields inside it the ids after `highest`; returns the last one.
fn assign_ids(column: &mut Column, highest: i32) -> Result<i32, SchemaError> {
    let mut last = highest;
    let mut next = |name: &str| {
        last = last.checked_add(1).ok_or_else(|| SchemaError::BadFieldId { id: last, name: name.to_owned() })?;
        Ok(Some(last))
    };
    column.id = next(&column.name)?;
    column.data_type.visit_fields(&mut |field: &mut RowField| {
        field.field_id = next(&field.name)?;
        Ok(())
    })?;
    Ok(last)
}
