//! Types of columns.

use super::error::SchemaError;
use super::json::{self, Place};
use serde_json::{Map, Value, json};

/// A type and whether it admits null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataType {
    pub kind: TypeKind,
    pub nullable: bool,
}

/// Every type of Fluss. Precisions are decimal digits (of the fraction of a second for times), lengths are characters for `Char` and
/// bytes for `Binary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    /// Length 1 and up.
    Char(u32),
    String,
    /// Length 1 and up.
    Binary(u32),
    Bytes,
    /// 1 <= precision <= 38, scale <= precision.
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    /// 0 to 9.
    Time(u8),
    /// 0 to 9.
    Timestamp(u8),
    /// With local time zone; 0 to 9.
    TimestampLtz(u8),
    Array(Box<DataType>),
    /// Key, value. Keys are never null.
    Map(Box<DataType>, Box<DataType>),
    Row(Vec<RowField>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowField {
    pub name: String,
    pub data_type: DataType,
    pub description: Option<String>,
    /// Unique among all columns and fields of a schema; None until the schema assigns it.
    pub field_id: Option<i32>,
}

impl From<TypeKind> for DataType {
    /// Nullable.
    fn from(kind: TypeKind) -> Self {
        Self { kind, nullable: true }
    }
}

impl TypeKind {
    /// The name in JSON.
    pub fn root(&self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::TinyInt => "TINYINT",
            Self::SmallInt => "SMALLINT",
            Self::Int => "INTEGER",
            Self::BigInt => "BIGINT",
            Self::Float => "FLOAT",
            Self::Double => "DOUBLE",
            Self::Char(_) => "CHAR",
            Self::String => "STRING",
            Self::Binary(_) => "BINARY",
            Self::Bytes => "BYTES",
            Self::Decimal { .. } => "DECIMAL",
            Self::Date => "DATE",
            Self::Time(_) => "TIME_WITHOUT_TIME_ZONE",
            Self::Timestamp(_) => "TIMESTAMP_WITHOUT_TIME_ZONE",
            Self::TimestampLtz(_) => "TIMESTAMP_WITH_LOCAL_TIME_ZONE",
            Self::Array(_) => "ARRAY",
            Self::Map(..) => "MAP",
            Self::Row(_) => "ROW",
        }
    }

    /// ARRAY, MAP or ROW: these cannot be keys.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Map(..) | Self::Row(_))
    }
}

impl DataType {
    pub fn not_null(kind: TypeKind) -> Self {
        Self { kind, nullable: false }
    }

    /// Parses JSON text, as in the `data_type_json` of a new column.
    ///
    /// Errors: `NotJson`, `Missing`, `WrongJson`, `OutOfRange`, `UnknownType`, `BlankName`, `Duplicate`.
    pub fn from_json(text: &[u8]) -> Result<Self, SchemaError> {
        Self::from_value(&json::parse(text)?, &Place::root("data_type"))
    }

    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub(super) fn from_value(value: &Value, at: &Place) -> Result<Self, SchemaError> {
        let node = json::object(value, at)?;
        let root = json::string(json::required(node, at, "type")?, &at.key("type"))?;
        let kind = Self::kind_from(root, node, at)?;
        let nullable = match node.get("nullable") {
            None | Some(Value::Null) => true,
            Some(value) => json::boolean(value, &at.key("nullable"))?,
        };
        Ok(Self { kind, nullable })
    }

    fn kind_from(root: &str, node: &Map<String, Value>, at: &Place) -> Result<TypeKind, SchemaError> {
        let length = |default| json::integer_or(node, at, "length", default, 1, i64::from(i32::MAX)).map(|length| length as u32);
        let precision = |default| json::integer_or(node, at, "precision", default, 0, 9).map(|precision| precision as u8);
        let inner = |key| Self::from_value(json::required(node, at, key)?, &at.key(key)).map(Box::new);
        Ok(match root {
            "BOOLEAN" => TypeKind::Boolean,
            "TINYINT" => TypeKind::TinyInt,
            "SMALLINT" => TypeKind::SmallInt,
            "INTEGER" => TypeKind::Int,
            "BIGINT" => TypeKind::BigInt,
            "FLOAT" => TypeKind::Float,
            "DOUBLE" => TypeKind::Double,
            "CHAR" => TypeKind::Char(length(None)?),
            "STRING" => TypeKind::String,
            "BINARY" => TypeKind::Binary(length(Some(1))?),
            "BYTES" => TypeKind::Bytes,
            "DECIMAL" => {
                let precision = json::integer_or(node, at, "precision", None, 1, 38)?;
                let scale = json::integer_or(node, at, "scale", Some(0), 0, precision)?;
                TypeKind::Decimal { precision: precision as u8, scale: scale as u8 }
            }
            "DATE" => TypeKind::Date,
            "TIME_WITHOUT_TIME_ZONE" => TypeKind::Time(precision(Some(0))?),
            "TIMESTAMP_WITHOUT_TIME_ZONE" => TypeKind::Timestamp(precision(Some(6))?),
            "TIMESTAMP_WITH_LOCAL_TIME_ZONE" => TypeKind::TimestampLtz(precision(Some(6))?),
            "ARRAY" => TypeKind::Array(inner("element_type")?),
            "MAP" => {
                let mut key = inner("key_type")?;
                key.nullable = false;
                TypeKind::Map(key, inner("value_type")?)
            }
            "ROW" => TypeKind::Row(Self::fields_from(node, at)?),
            found => return Err(SchemaError::UnknownType { at: at.to_string(), found: found.to_owned() }),
        })
    }

    fn fields_from(node: &Map<String, Value>, at: &Place) -> Result<Vec<RowField>, SchemaError> {
        let at = at.key("fields");
        let mut fields: Vec<RowField> = Vec::new();
        for (index, value) in json::array(json::required_in(node, &at, "fields")?, &at)?.iter().enumerate() {
            let field = RowField::from_value(value, &at.index(index))?;
            if fields.iter().any(|other| other.name == field.name) {
                return Err(SchemaError::Duplicate { what: "field", name: field.name });
            }
            fields.push(field);
        }
        Ok(fields)
    }

    pub(super) fn to_value(&self) -> Value {
        let mut node = Map::new();
        node.insert("type".to_owned(), json!(self.kind.root()));
        if !self.nullable {
            node.insert("nullable".to_owned(), json!(false));
        }
        let mut put = |key: &str, value: Value| node.insert(key.to_owned(), value);
        match &self.kind {
            TypeKind::Boolean
            | TypeKind::TinyInt
            | TypeKind::SmallInt
            | TypeKind::Int
            | TypeKind::BigInt
            | TypeKind::Float
            | TypeKind::Double
            | TypeKind::String
            | TypeKind::Bytes
            | TypeKind::Date => {}
            TypeKind::Char(length) | TypeKind::Binary(length) => {
                put("length", json!(length));
            }
            TypeKind::Decimal { precision, scale } => {
                put("precision", json!(precision));
                put("scale", json!(scale));
            }
            TypeKind::Time(precision) | TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) => {
                put("precision", json!(precision));
            }
            TypeKind::Array(element) => {
                put("element_type", element.to_value());
            }
            TypeKind::Map(key, value) => {
                put("key_type", key.to_value());
                put("value_type", value.to_value());
            }
            TypeKind::Row(fields) => {
                put("fields", fields.iter().map(RowField::to_value).collect());
            }
        }
        Value::Object(node)
    }

    /// Calls `visit` for every field of every row inside, depth first, outer before inner.
    pub(super) fn visit_fields<E>(&mut self, visit: &mut impl FnMut(&mut RowField) -> Result<(), E>) -> Result<(), E> {
        match &mut self.kind {
            TypeKind::Array(element) => element.visit_fields(visit),
            TypeKind::Map(key, value) => {
                key.visit_fields(visit)?;
                value.visit_fields(visit)
            }
            TypeKind::Row(fields) => {
                for field in fields {
                    visit(field)?;
                    field.data_type.visit_fields(visit)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl RowField {
    fn from_value(value: &Value, at: &Place) -> Result<Self, SchemaError> {
        let node = json::object(value, at)?;
        let name = json::string(json::required(node, at, "name")?, &at.key("name"))?;
        if name.trim().is_empty() {
            return Err(SchemaError::BlankName);
        }
        let id = json::integer_or(node, at, "field_id", Some(-1), -1, i64::from(i32::MAX))?;
        Ok(Self {
            name: name.to_owned(),
            data_type: DataType::from_value(json::required(node, at, "field_type")?, &at.key("field_type"))?,
            description: json::optional_string(node, at, "description")?,
            field_id: (id >= 0).then_some(id as i32),
        })
    }

    fn to_value(&self) -> Value {
        let mut node = Map::new();
        node.insert("name".to_owned(), json!(self.name));
        node.insert("field_type".to_owned(), self.data_type.to_value());
        if let Some(description) = &self.description {
            node.insert("description".to_owned(), json!(description));
        }
        node.insert("field_id".to_owned(), json!(self.field_id.unwrap_or(-1)));
        Value::Object(node)
    }
}
