-- Whether the trail has ever had a change of this store: a note is taken out once it is recorded there.

ALTER TABLE store ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER note_recorded AFTER DELETE ON notes WHEN (SELECT recorded FROM store) = 0
BEGIN UPDATE store SET recorded = 1; END;
