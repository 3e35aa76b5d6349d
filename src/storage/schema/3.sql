CREATE TABLE last_versions (
    credential TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version > 0)
) STRICT, WITHOUT ROWID;
INSERT INTO last_versions (credential, version) SELECT credential, max(version) FROM versions GROUP BY credential;
