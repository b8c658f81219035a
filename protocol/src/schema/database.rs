//! What a database is, apart from its name.

use super::error::SchemaError;
use super::json::{self, Place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseDescriptor {
    pub comment: Option<String>,
    pub custom_properties: BTreeMap<String, String>,
}

impl DatabaseDescriptor {
    /// Errors: `NotJson`, `Missing` (custom_properties), `WrongJson`.
    pub fn from_json(text: &[u8]) -> Result<Self, SchemaError> {
        let value = json::parse(text)?;
        let at = Place::root("database");
        let node = json::object(&value, &at)?;
        let custom_properties = json::required(node, &at, "custom_properties")?;
        Ok(Self {
            comment: json::optional_string(node, &at, "comment")?,
            custom_properties: json::string_map(custom_properties, &at.key("custom_properties"))?,
        })
    }

    pub fn to_json(&self) -> String {
        let mut node = Map::new();
        node.insert("version".to_owned(), json!(1));
        if let Some(comment) = &self.comment {
            node.insert("comment".to_owned(), json!(comment));
        }
        node.insert("custom_properties".to_owned(), json!(self.custom_properties));
        Value::Object(node).to_string()
    }
}

impl TryFrom<String> for DatabaseDescriptor {
    type Error = SchemaError;

    fn try_from(text: String) -> Result<Self, SchemaError> {
        Self::from_json(text.as_bytes())
    }
}

impl From<DatabaseDescriptor> for String {
    fn from(database: DatabaseDescriptor) -> Self {
        database.to_json()
    }
}
