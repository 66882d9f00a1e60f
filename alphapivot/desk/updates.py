"""Which messages were taken: each once, whichever process does it and whenever it dies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from alphapivot.hub import Hub

TAKE = """
    INSERT INTO ops.phone_update (bot, update_id, chat_id, sender, said)
    VALUES (:bot, :update_id, :chat_id, :sender, :said) ON CONFLICT DO NOTHING RETURNING update_id
"""
CONFIRM = """
    UPDATE ops.phone_update SET confirmed_by = :by
    WHERE (bot, update_id, chat_id, sender) = (:bot, :asked, :chat_id, :sender) AND confirmed_by IS NULL
      AND at > clock_timestamp() - make_interval(secs => :seconds) RETURNING said
"""
LEFT = "SELECT update_id, chat_id, said FROM ops.phone_update WHERE bot = :bot AND answer IS NULL ORDER BY update_id"


def take(hub: Hub, bot: int, update_id: int, chat: int, sender: str, said: str) -> bool:
    """Takes a message, committed; False if it was taken before."""
    values = {"bot": bot, "update_id": update_id, "chat_id": chat, "sender": sender, "said": said}
    with hub.engine.begin() as conn:
        return conn.execute(text(TAKE), values).scalar() is not None


def answered(hub: Hub, bot: int, update_id: int, answer: str) -> None:
    """Records what was answered."""
    query = "UPDATE ops.phone_update SET answer = :answer WHERE (bot, update_id) = (:bot, :update_id)"
    with hub.engine.begin() as conn:
        conn.execute(text(query), {"bot": bot, "update_id": update_id, "answer": answer})


def confirm(hub: Hub, bot: int, asked: int, by: int, chat: int, sender: str, seconds: float) -> str | None:
    """The command of message ``asked``, which ``by`` confirms; None: none that may be confirmed."""
    values = {"bot": bot, "asked": asked, "by": by, "chat_id": chat, "sender": sender, "seconds": seconds}
    with hub.engine.begin() as conn:
        said: str | None = conn.execute(text(CONFIRM), values).scalar()
        return said


def left(hub: Hub, bot: int) -> list[tuple[int, int, str]]:
    """(update_id, chat_id, said) of messages that were taken and never answered."""
    with hub.engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(LEFT), {"bot": bot})]
