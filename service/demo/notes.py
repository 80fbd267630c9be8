"""The demo store's texts for people: its README, and the synonyms that the demo uses."""

from __future__ import annotations

SYNONYMS = """\
# Solr's format: words that mean the same, or words => what they are read as.
sofa, couch, settee
wrench, spanner
frying pan, skillet
flashlight, torch
backpack, rucksack, knapsack
sunscreen, sunblock
sneakers, trainers => running shoes
pruning shears, secateurs
移动电源, 充电宝
洁面乳, 洗面奶
螺丝刀, 改锥, 起子
插线板, 排插
鼠标, 滑鼠
"""

README = """\
# The demo store

Made by `shelfwise demo` from Shelfwise's own grammar: every brand, product, query and shopper is invented.
Seed {seed}, {products} products, {queries} queries, {sessions} honest sessions, {events} events.
The same numbers and the same seed give the same bytes.

| file | what it holds |
|---|---|
| products.jsonl.gz | the catalog, one product a line, about 70% English (USD) and 30% Chinese (CNY) |
| judgments.tsv | query, product_id, grade: 3 the right type and every wish granted, 2 one wish missed, 1 more missed \
or a related type (an accessory, the same thing in the other language), 0 a sample of the rest |
| judgments.train.tsv, judgments.dev.tsv, judgments.test.tsv | the same, split by a hash of the query |
| queries.tsv | query, class, language, split; the classes are {classes} |
| events.jsonl.gz | what shoppers did: impressions, clicks, carts and purchases, in order of time; a category page \
that was browsed has an empty query |
| truth.json | what made the events: examination by position, attractiveness of each query's products, tastes, the \
products' types and lines, and the planted fraud |
| synonyms.txt | a handful of synonyms in Solr's format; most of what the synonym queries need is left out |

Nothing may learn from truth.json or from the dev and test judgments: they are there to measure with.
"""
