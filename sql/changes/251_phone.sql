-- `alphapivot phone`: each message is answered once, across restarts.
CREATE TABLE ops.phone_update (
    bot          bigint      NOT NULL,
    update_id    bigint      NOT NULL,
    chat_id      bigint      NOT NULL,
    sender       text        NOT NULL,
    said         text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    answer       text,
    confirmed_by bigint,
    PRIMARY KEY (bot, update_id)
);
COMMENT ON TABLE ops.phone_update IS 'Messages of allowed chats to the phone''s bot, each taken by one process once, before anything is done about it';
COMMENT ON COLUMN ops.phone_update.bot IS 'The bot''s id: the part of its token that is no secret';
COMMENT ON COLUMN ops.phone_update.sender IS 'Name and id of who wrote';
COMMENT ON COLUMN ops.phone_update.answer IS 'NULL: in work, or the process ended on the way';
COMMENT ON COLUMN ops.phone_update.confirmed_by IS 'The message that confirmed this command; at most one does';
