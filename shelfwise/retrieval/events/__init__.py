"""Events of shoppers: records, validation, privacy, stores."""
