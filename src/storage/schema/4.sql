-- Whose rows were touched, and by which change last: what a gateway that follows reads anew. Whatever touches
-- a row of a consumer's must be seen here, or a revocation is not followed: a step that adds a column to one of
-- the three tables makes its trigger for updates again.

CREATE TABLE touched (
    consumer TEXT NOT NULL PRIMARY KEY,
    stamp INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX touched_since ON touched (stamp);

-- The latest changes, each with a mark of its own: by it the same count of another history is known, where an
-- older state of the store was put back. What came before them is not kept.
CREATE TABLE marks (
    stamp INTEGER NOT NULL PRIMARY KEY,
    mark INTEGER NOT NULL
) STRICT;
INSERT INTO marks (stamp, mark) SELECT changes, random() FROM store;
CREATE TRIGGER marked AFTER UPDATE OF changes ON store BEGIN
    INSERT OR REPLACE INTO marks (stamp, mark) VALUES (NEW.changes, random());
    DELETE FROM marks WHERE stamp <= NEW.changes - 1000;
    DELETE FROM touched WHERE stamp <= NEW.changes - 1000;
END;

-- Who is put here is touched by the change that is being made: the count is raised last in its transaction.
CREATE VIEW touch (consumer) AS SELECT consumer FROM touched;
CREATE TRIGGER touching INSTEAD OF INSERT ON touch BEGIN
    INSERT INTO touched (consumer, stamp) VALUES (NEW.consumer, (SELECT changes + 1 FROM store))
    ON CONFLICT (consumer) DO UPDATE SET stamp = excluded.stamp;
END;

-- A row that changes hands is both consumers'. When a token or key was last used is no change.
CREATE TRIGGER consumer_added AFTER INSERT ON consumers
BEGIN INSERT INTO touch VALUES (NEW.name); END;
CREATE TRIGGER consumer_changed AFTER UPDATE ON consumers
BEGIN INSERT INTO touch VALUES (OLD.name), (NEW.name); END;
CREATE TRIGGER consumer_removed AFTER DELETE ON consumers
BEGIN INSERT INTO touch VALUES (OLD.name); END;

CREATE TRIGGER token_added AFTER INSERT ON tokens
BEGIN INSERT INTO touch VALUES (NEW.consumer); END;
CREATE TRIGGER token_changed
AFTER UPDATE OF id, consumer, digest, created, expires, revoked, note ON tokens
BEGIN INSERT INTO touch VALUES (OLD.consumer), (NEW.consumer); END;
CREATE TRIGGER token_removed AFTER DELETE ON tokens
BEGIN INSERT INTO touch VALUES (OLD.consumer); END;

CREATE TRIGGER access_key_added AFTER INSERT ON access_keys
BEGIN INSERT INTO touch VALUES (NEW.consumer); END;
CREATE TRIGGER access_key_changed
AFTER UPDATE OF id, consumer, sealed, algorithms, strict, created, expires, revoked, note ON access_keys
BEGIN INSERT INTO touch VALUES (OLD.consumer), (NEW.consumer); END;
CREATE TRIGGER access_key_removed AFTER DELETE ON access_keys
BEGIN INSERT INTO touch VALUES (OLD.consumer); END;
