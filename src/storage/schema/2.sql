CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY,
    consumer TEXT NOT NULL,
    sealed BLOB NOT NULL,
    algorithms TEXT NOT NULL,
    strict INTEGER,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    last_used INTEGER,
    note TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX access_keys_of_consumer ON access_keys (consumer);
