-- The paper broker: fills of a part, replaced orders, stops that go on at market; decisions that move a stop.

ALTER TABLE paper.fill DROP CONSTRAINT fill_book_client_order_id_key;
CREATE INDEX paper_fill_order ON paper.fill (book, client_order_id);

ALTER TABLE paper.orders
    ADD COLUMN was numeric,                                 -- the price until active_from, where it replaced an order
    ADD COLUMN triggered boolean NOT NULL DEFAULT false,    -- a stop on its way out, at market
    DROP CONSTRAINT orders_state_check,
    ADD CONSTRAINT orders_state_check CHECK (state IN ('HELD', 'WORKING', 'FILLED', 'CANCELED', 'REPLACED'));

ALTER TABLE trading.decision
    ADD COLUMN stop numeric,                                -- where an AMEND moves the stop
    DROP CONSTRAINT decision_action_check,
    ADD CONSTRAINT decision_action_check CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'HOLD', 'AMEND', 'EXIT', 'NONE', 'DENIED')),
    ADD CONSTRAINT decision_amend CHECK ((action = 'AMEND') = (stop IS NOT NULL));
