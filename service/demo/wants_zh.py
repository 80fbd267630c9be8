"""What Chinese-speaking shoppers want without naming one product type: broad words, gifts, uses, two languages."""

from __future__ import annotations

from service.demo.grammar import want

GIFTS = (
    want("送爸爸的生日礼物", "zh_drill zh_screwdriver zh_thermos", "zh_flashlight zh_wrench"),
    want("送女朋友的礼物", "zh_dress zh_plush zh_lip_balm", "zh_hair_dryer zh_mug"),
    want("送给爱露营的朋友", "zh_tent zh_flashlight", "zh_backpack zh_pole"),
    want("小朋友六一礼物", "zh_bricks zh_puzzle zh_plush", ""),
    want("教师节送老师什么好", "zh_thermos zh_desk_lamp zh_notebook", "zh_pen zh_mug"),
    want("送养猫的闺蜜", "zh_cat_tree", "zh_litter"),
    want("送喜欢养花的妈妈", "zh_pot zh_pruner", ""),
    want("送爱跑步的同事", "zh_running_shoes zh_earbuds", "zh_tshirt"),
    want("乔迁新居实用礼品", "zh_kettle zh_rice_cooker zh_pan", "zh_board zh_power_strip"),
    want("送程序员男友", "zh_keyboard zh_mouse zh_headphones", "zh_desk_lamp"),
)

USES = (
    want("上班路上听歌", "zh_earbuds zh_headphones", "zh_speaker"),
    want("手机没电了怎么办", "zh_power_bank", "zh_charger zh_cable"),
    want("冬天喝热水", "zh_thermos zh_kettle", "zh_mug"),
    want("墙上打孔", "zh_drill", "zh_drill_bits"),
    want("煎蛋不糊", "zh_pan", ""),
    want("军训怕晒黑", "zh_sunscreen", ""),
    want("夏天跑步穿的", "zh_running_shoes zh_tshirt", ""),
    want("零下十度穿什么", "zh_down_jacket", "zh_hoodie"),
    want("嘴唇干裂", "zh_lip_balm", ""),
    want("头发出油", "zh_shampoo", ""),
    want("晚上看书伤眼睛", "zh_desk_lamp", ""),
    want("猫咪抓家具", "zh_cat_tree", "zh_sofa"),
    want("插孔不够用", "zh_power_strip", "zh_charger"),
    want("爬山膝盖疼", "zh_pole", ""),
    want("停电应急照明", "zh_flashlight", "zh_power_bank"),
    want("小孩在家玩什么", "zh_bricks zh_puzzle", "zh_plush"),
    want("懒人做饭", "zh_rice_cooker", "zh_pan"),
    want("剪树枝", "zh_pruner", ""),
    want("笔记本电脑出差背的", "zh_backpack", ""),
    want("拧水管螺母", "zh_wrench", "zh_screwdriver"),
)

MIXED = (
    want("无线 earbuds", "zh_earbuds earbuds", "zh_headphones headphones earbud_case"),
    want("running shoes 跑步鞋", "zh_running_shoes running_shoes", "hiking_boots"),
    want("USB-C 快充头", "zh_charger wall_charger", "zh_cable usb_cable zh_power_bank power_bank"),
    want("gaming 键盘", "zh_keyboard keyboard", "zh_mouse mouse"),
    want("露营 tent", "zh_tent tent", "sleeping_bag tent_stakes sleeping_pad"),
    want("cordless 电钻", "zh_drill cordless_drill", "zh_drill_bits drill_bits hammer_drill"),
    want("bluetooth 音箱", "zh_speaker speaker", "zh_earbuds earbuds"),
    want("hoodie 卫衣", "zh_hoodie hoodie", "zh_tshirt tshirt"),
    want("咖啡 mug", "zh_mug coffee_mug", "travel_mug zh_thermos"),
    want("thermos 杯", "zh_thermos vacuum_flask", "travel_mug"),
    want("iron pan 平底锅", "zh_pan frying_pan", "saucepan pan_lid"),
    want("猫 litter", "zh_litter cat_litter", "zh_cat_tree cat_tree"),
    want("狗 leash", "zh_leash dog_leash", "dog_bed"),
    want("teddy bear 玩偶", "zh_plush plush_bear", ""),
    want("building blocks 积木", "zh_bricks building_bricks", "zh_puzzle puzzle"),
    want("sunscreen 防晒", "zh_sunscreen sunscreen", "zh_cleanser moisturizer"),
    want("hiking 背包", "zh_backpack backpack", "backpack_cover"),
    want("护眼 lamp", "zh_desk_lamp desk_lamp", ""),
    want("bike 头盔", "zh_helmet bike_helmet", "bike_light"),
    want("led 手电", "zh_flashlight flashlight", "headlamp"),
    want("power bank 大容量", "zh_power_bank power_bank", "zh_charger wall_charger"),
    want("不粘 frying pan", "zh_pan frying_pan", "saucepan pan_lid"),
    want("无硅油 shampoo", "zh_shampoo shampoo", "conditioner"),
    want("chef knife 菜刀", "zh_knife chef_knife", "knife_sharpener zh_board"),
    want("拼图 puzzle", "zh_puzzle puzzle", "zh_bricks board_game"),
)

BROAD = (
    want("耳机", "zh_earbuds zh_headphones", "zh_speaker"),
    want("杯子", "zh_thermos zh_mug", "zh_kettle"),
    want("锅", "zh_pan zh_rice_cooker", ""),
    want("充电", "zh_charger zh_power_bank zh_cable", ""),
    want("电钻", "zh_drill", "zh_drill_bits zh_bit_case"),
    want("猫咪用品", "zh_litter zh_cat_tree", ""),
    want("护肤品", "zh_cleanser zh_sunscreen zh_lip_balm", "zh_shampoo"),
    want("儿童玩具", "zh_bricks zh_puzzle zh_plush", ""),
)
