//! The name of a stream or of a pub/sub channel, made for each table.

/// A name with places: `{stakeholder}`, `{channel}`, `{schema}` and `{table}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Stakeholder,
    Channel,
    Schema,
    Table,
}

/// The usual template.
const DEFAULT: &str = "integratedb:{stakeholder}:{schema}.{table}";

/// The longest template.
const MOST: usize = 512;

impl Default for Template {
    fn default() -> Self {
        Self::read(DEFAULT).expect("it is one")
    }
}

impl Template {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MOST {
            return Err(format!("a key has 1 to {MOST} bytes"));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a { is not closed")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "stakeholder" => Part::Stakeholder,
                "channel" => Part::Channel,
                "schema" => Part::Schema,
                "table" => Part::Table,
                _ => {
                    return Err(format!(
                        "{{{name}}} is not known: there are {{stakeholder}}, {{channel}}, {{schema}} and {{table}}"
                    ));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { text: text.to_owned(), parts })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The name for a table.
    pub(super) fn fill(
        &self,
        stakeholder: &str,
        channel: &str,
        (schema, table): (&str, &str),
    ) -> String {
        let part = |part: &'_ Part| match part {
            Part::Text(text) => text.clone(),
            Part::Stakeholder => stakeholder.to_owned(),
            Part::Channel => channel.to_owned(),
            Part::Schema => schema.to_owned(),
            Part::Table => table.to_owned(),
        };
        self.parts.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_its_places() {
        let fill = |text: &str| {
            Template::read(text)
                .map(|template| template.fill("shop", "REDIS", ("public", "orders")))
        };
        assert_eq!(fill(DEFAULT).as_deref(), Ok("integratedb:shop:public.orders"));
        assert_eq!(fill("{table}{channel}x").as_deref(), Ok("ordersREDISx"));
        assert_eq!(fill("all").as_deref(), Ok("all"));
        for wrong in ["", "{tabel}", "a{table", "{}"] {
            assert!(fill(wrong).is_err(), "{wrong}");
        }
    }
}
