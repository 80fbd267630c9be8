"""The Chinese half of the demo store: brands, series, title layouts, and how shoppers put their wishes."""

from __future__ import annotations

from types import MappingProxyType

from service.demo import types_zh_electronics, types_zh_house, types_zh_wear, wants_zh
from service.demo.grammar import Grammar, brand_pool

_BRANDS = {
    "tools": brand_pool("匠砺 JL 1.2,钢沐 GM 0.9,锤石坊 CS 1.0,力岩 LY 0.7"),
    "kitchen": brand_pool("灶禾 ZH 1.0,米岚 ML 1.2,釜小满 FX 0.8,炊语 CY 1.4,锅巴屋 GB 0.65"),
    "electronics": brand_pool("声屿 SY 1.2,芯桐 XT 1.0,电小鹿 DL 0.7,极屿 JY 1.35,蓝枝 LZ 0.85"),
    "clothing": brand_pool("棉屿 MY 0.9,衣禾里 YH 1.0,步岚 BL 1.2,织云巷 ZY 1.3,素野 SU 0.7"),
    "outdoor": brand_pool("野径客 YK 1.2,山栎 SL 1.0,拾峰 SF 0.85,露宿集 LS 0.7"),
    "toys": brand_pool("童趣塔 TQ 1.0,豆丁匠 DD 0.8,积木喵 JM 1.2,萌豆社 MD 0.9"),
    "beauty": brand_pool("花漾溪 HY 1.0,肌语泉 JQ 1.3,草木笺 CJ 0.8,沐浅 MQ 1.1"),
    "pets": brand_pool("喵岛记 MJ 1.0,毛球社 MS 0.8,汪小满 WX 1.2"),
    "garden": brand_pool("禾圃 HP 1.0,绿篱坊 LF 0.8,苔语 TY 1.3"),
    "office": brand_pool("墨栈 MZ 1.1,纸鸢屋 ZW 0.8,简页 JN 1.0"),
    "home": brand_pool("木间集 MI 1.2,暖屋社 NW 0.9,栖原 QY 1.0,灯下客 DX 0.75"),
}

_SERIES = (
    "轻岚 云朵 山野 初雪 暖阳 星屿 晨雾 青禾 听风 拾光 木棉 远航 锋行 悦享 简素 小满 谷雨 霜降 立夏 白露 "
    "清和 朝露 松间 竹影 海盐 流光 沐风 知夏 望月 南枝 北辰 长歌 归燕 半夏 鹿鸣 疏影 素心 逐浪 逸尘 安然 "
    "朗月 霁色 千寻 雨巷 晴空 微澜 栖云 踏雪 若水 明川"
)

_SHADES = {
    "红色": ("酒红", "枣红"),
    "蓝色": ("藏蓝", "天蓝"),
    "绿色": ("军绿", "薄荷绿"),
    "灰色": ("深灰", "银灰"),
    "黑色": ("曜石黑", "磨砂黑"),
    "白色": ("月光白", "奶白"),
    "粉色": ("樱花粉", "藕粉"),
}

_STYLES = (
    "{brand} {series}{name} {point} {lead} {tail} {model}",
    "{brand}{name} {lead} {point} {series}系列 {model} {tail}",
    "{brand} {lead} {name} {series}款 {tail} {model}",
    "{point} {name} {brand}{series} {model} {lead} {tail}",
)

_CLOSINGS = {
    "五金工具": ("整机质保三年。", "家里常备，省心省力。"),
    "厨房用品": ("好清洗，好收纳。", "一日三餐的好帮手。"),
    "数码电器": ("两年换新。", "附数据线和说明书。"),
    "服饰鞋包": ("建议三十度以下水洗。", "七天无理由退换。"),
    "户外运动": ("风里雨里都试过。", "新手老手都合用。"),
    "母婴玩具": ("通过安全检测，放心玩。", "不含有害塑化剂。"),
    "美妆个护": ("不含酒精。", "孕期请先咨询医生。"),
    "宠物用品": ("毛孩子亲测好用。", "有问题随时找客服。"),
    "园艺绿植": ("阳台党必备。", "新手也能养好。"),
    "办公文具": ("学习办公都顺手。", "环保纸盒包装。"),
    "家居家具": ("送货到家。", "附安装工具。"),
}

_LABELS = {
    "material": "材质：{}。",
    "color": "颜色：{}。",
    "voltage_v": "电压{}伏。",
    "gender": "{}。",
    "power_w": "功率{}瓦。",
    "skin_type": "适合{}。",
    "hair_type": "功效：{}。",
    "age_from": "适合{}岁以上。",
    "season": "{}款式。",
    "filling": "填充物：{}。",
    "size": "规格：{}。",
}

_CEILINGS = ("{}元以内", "{}元以下", "不超过{}块", "{}块钱以内")

CHINESE = Grammar(
    language="zh",
    currency="CNY",
    types=types_zh_house.TYPES + types_zh_electronics.TYPES + types_zh_wear.TYPES,
    brands=MappingProxyType(_BRANDS),
    series=tuple(_SERIES.split()),
    shades=MappingProxyType(_SHADES),
    styles=_STYLES,
    closings=MappingProxyType(_CLOSINGS),
    labels=MappingProxyType(_LABELS),
    ceilings=_CEILINGS,
    broad=wants_zh.BROAD,
    gifts=wants_zh.GIFTS,
    uses=wants_zh.USES,
    mixed=wants_zh.MIXED,
)
