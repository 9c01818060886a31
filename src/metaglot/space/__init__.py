"""Tasks, the groups that they are of, and the episodes drawn from them."""

from metaglot.space.episodes import Draw, Rows, Shots, draw_episode, draw_support, generator
from metaglot.space.groups import Groups
from metaglot.space.task import Task, TaskSpace, find_language

__all__ = [
    "Draw",
    "Groups",
    "Rows",
    "Shots",
    "Task",
    "TaskSpace",
    "draw_episode",
    "draw_support",
    "find_language",
    "generator",
]
