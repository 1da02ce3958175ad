"""Small tables in the likeness of public files, and how pandas alone reads each of them."""

import pandas as pd

STOCKS = """Price,Close,High,Volume
Ticker,AAPL,AAPL,AAPL
Date,,,
2024-01-02,185.64,188.44,82488700
2024-01-03,184.25,185.88,58414500
2024-01-05,181.18,182.76,62303300
"""
TWO_STOCKS = """Price,Close,Close,Volume,Volume
Ticker,AAPL,MSFT,AAPL,MSFT
Date,,,,
2024-01-02,185.64,370.87,82488700,25258600
2024-01-03,184.25,370.6,58414500,23083500
"""
INDEX = ",Open,High\n2024-01-02,1.5,2\n2024-01-03,1.25,3\n2024-01-08,1,4\n"
UCI = "date,temp,light\n1,2015-02-04 17:51:00,23.18,426\n2,2015-02-04 17:52:00,23.15,429.5\n"
R_FRAME = '"ozone" "wind"\n"1" 41 7.4\n"2" NA 8\n"3" 12 12.6\n'
GERMAN = "Zeit;Leistung [kW];Preis\n01.02.2024 00:00;1.234,5;-0,25\n01.02.2024 01:00;7;12,5\n"
FRENCH = "Date;Débit (m³/s)\n28/02/2024 00:00;1 234,5\n28/02/2024 01:00;987,25\n"
CHINESE = "时间,气温,湿度\n2024-01-01 08:00,-3.5,40\n2024-01-01 09:00,-2,38\n"
AMERICAN = (
    "DateTime,load\n01/31/2024 11:00 PM,5.5\n02/01/2024 12:00 AM,6\n02/01/2024 01:00 AM,6.25\n"
)
ZONED = "utc,cet,x\n2024-03-31T00:00:00Z,1,2.5\n2024-03-31T01:00:00Z,3,3.5\n"
EXCEL = "Day,x\n45292.0416666667,1\n45292.0833333333,2\n45292.125,3.5\n"
M4 = 'V1,V2,V3,V4,V5\n"Y1",5172.1,5133.5,5186.9,\n"Y2",2070,2104,2394,1651\n'
M5 = (
    "id,item_id,store_id,d_1,d_2,d_3\n"
    "A_1_CA_1,A_1,CA_1,0,2,1\nA_1_TX_1,A_1,TX_1,3,0,4\nA_2_CA_1,A_2,CA_1,1,1,0\n"
)
NAB = "timestamp,value\n2014-02-14 14:30:00,0.132\n2014-02-14 14:35:00,0.134\n"
BIKES = (
    "instant,dteday,season,hr,temp,cnt\n"
    "1,2011-01-01,1,0,0.24,16\n2,2011-01-01,1,1,0.22,40\n3,2011-01-01,1,3,0.22,32\n"
    "4,2011-01-02,1,0,0.46,17\n"
)
HOUSEHOLD = (
    "Date;Time;Global_active_power;Voltage\n"
    "16/12/2006;17:24:00;4.216;234.840\n16/12/2006;17:25:00;?;?\n16/12/2006;17:26:00;5.374;233.290\n"
)
ROSSMANN = (
    '"Store","DayOfWeek","Date","Sales","StateHoliday"\n'
    '2,5,2015-07-31,6064,"0"\n1,5,2015-07-31,5263,"0"\n2,4,2015-07-30,5651,"a"\n'
    '1,4,2015-07-30,5020,"0"\n'
)
ELECTRICITY = '"";"MT_001";"MT_002"\n"2011-01-01 00:15:00";3,807;22,75\n"2011-01-01 00:30:00";5;0\n'
UNITS = "TIMESTAMP,T,p\n,degC,hPa\n2024-01-01 00:00,1.5,990\n2024-01-01 00:10,1.25,991\n"
NOTES = (
    "# station 7\n# made up\ndate,T # of air\n2024-01-01,1.5\n2024-01-02,2 # doubtful\n"
    "mean,1.75\nend of file\n"
)
WORDS = "Date,CO2\n5-Jan-2009,387.5\n6-Jan-2009,388.25\n7-Jan-2009,389\n"
SHORT_YEARS = "Date,CO2\n29-Jan-09,387.5\n30-Jan-09,388.25\n31-Jan-99,389\n"
QUARTERS = "Quarter,gdp\n1959Q1,2710.3\n1959Q2,2778.8\n1959Q3,2775.5\n"
COMPACT = "DATE,x\n20170130,1\n20170131,2\n20170201,4\n"
SECONDS = "t,x\n1580000000.5,1\n1580000001.5,2\n1580000002.5,4\n"
NANOSECONDS = "t,x\n1580000000000000001,1\n1580000000000000003,2\n"
MARKS = "date,x\n2024-01-01,1\n2024-01-02,missing\n2024-01-03,---\n2024-01-04,2.5\n"
WIDE_HEADER = "date;T, deg\n2024-01-01;1.5\n2024-01-02;2\n"
BLANKS = "YY  MM WSPD  PRES\n2023 11  4.1 1012.0\n2023 12 10.5  998.5\n"
NO_NAMES = "2024-01-01,1.5,990\n2024-01-02,2,991\n"


def _dates(column, **options):
    return pd.to_datetime(column, **options)


# name: text, encoding, arguments of read_csv, arguments of pandas, columns, times of a frame
CASES = {
    "stock prices, one ticker": (
        STOCKS, "utf-8", {"skiprows": [1, 2]}, {"skiprows": [1, 2]},
        ["Close", "High", "Volume"], lambda f: _dates(f["Price"]),
    ),
    "stock prices, two tickers": (
        TWO_STOCKS, "utf-8", {"header": [0, 1], "skiprows": [2]},
        {"header": 0, "skiprows": [1, 2], "names": ["d", "a", "b", "c", "e"]},
        ["a", "b", "c", "e"], lambda f: _dates(f["d"]),
    ),
    "an index of pandas": (
        INDEX, "utf-8", {}, {}, ["Open", "High"], lambda f: _dates(f["Unnamed: 0"]),
    ),
    "a header one cell short": (
        UCI, "utf-8", {}, {}, ["temp", "light"], lambda f: _dates(f["date"]),
    ),
    "a data frame of R": (
        R_FRAME, "utf-8", {"delimiter": " "}, {"sep": " "}, ["ozone", "wind"], None,
    ),
    "German numbers": (
        GERMAN, "latin-1", {"decimal": ",", "thousands": "."},
        {"sep": ";", "decimal": ",", "thousands": "."}, ["Leistung [kW]", "Preis"],
        lambda f: _dates(f["Zeit"], format="%d.%m.%Y %H:%M"),
    ),
    "French numbers": (
        FRENCH, "utf-8", {"decimal": ",", "thousands": " "},
        {"sep": ";", "decimal": ",", "thousands": " "}, ["Débit (m³/s)"],
        lambda f: _dates(f["Date"], dayfirst=True),
    ),
    "GBK": (
        CHINESE, "gbk", {}, {}, ["气温", "湿度"], lambda f: _dates(f["时间"]),
    ),
    "a byte-order mark": (
        CHINESE, "utf-8-sig", {"encoding": None}, {}, ["气温", "湿度"], lambda f: _dates(f["时间"]),
    ),
    "UTF-16": (
        NAB, "utf-16", {}, {}, ["value"], lambda f: _dates(f["timestamp"]),
    ),
    "AM and PM": (
        AMERICAN, "utf-8", {}, {}, ["load"],
        lambda f: _dates(f["DateTime"], format="%m/%d/%Y %I:%M %p"),
    ),
    "a zone": (
        ZONED, "utf-8", {}, {}, ["cet", "x"], lambda f: _dates(f["utc"]).dt.tz_localize(None),
    ),
    "day numbers of Excel": (
        EXCEL, "utf-8", {"time": "Day", "time_format": "excel"}, {}, ["x"],
        lambda f: _dates(f["Day"], unit="D", origin="1899-12-30").dt.round("s"),
    ),
    "NAB": (NAB, "utf-8", {}, {}, ["value"], lambda f: _dates(f["timestamp"])),
    "bike sharing": (
        BIKES, "utf-8", {"time": ["dteday", "hr"]}, {}, ["instant", "season", "temp", "cnt"],
        lambda f: _dates(f["dteday"]) + pd.to_timedelta(f["hr"], unit="h"),
    ),
    "household power": (
        HOUSEHOLD, "utf-8", {}, {"sep": ";", "na_values": ["?"]},
        ["Global_active_power", "Voltage"],
        lambda f: _dates(f["Date"] + " " + f["Time"], format="%d/%m/%Y %H:%M:%S"),
    ),
    "electricity": (
        ELECTRICITY, "utf-8", {"decimal": ","}, {"sep": ";", "decimal": ","},
        ["MT_001", "MT_002"], lambda f: _dates(f["Unnamed: 0"]),
    ),
    "a line of units": (
        UNITS, "utf-8", {"skiprows": [1]}, {"skiprows": [1]}, ["T", "p"],
        lambda f: _dates(f["TIMESTAMP"]),
    ),
    "notes and a footer": (
        NOTES, "utf-8", {"comment": "#", "skipfooter": 2},
        {"comment": "#", "skipfooter": 2, "engine": "python", "header": 0, "names": ["date", "T"]},
        ["T"], lambda f: _dates(f["date"]),
    ),
    "months in words": (
        WORDS, "utf-8", {}, {}, ["CO2"], lambda f: _dates(f["Date"], format="%d-%b-%Y"),
    ),
    "years of two digits": (
        SHORT_YEARS, "utf-8", {"sort": True, "time_format": "%d-%b-%y"}, {}, None,
        lambda f: _dates(f["Date"], format="%d-%b-%y"),
    ),
    "quarters": (
        QUARTERS, "utf-8", {}, {}, ["gdp"],
        lambda f: pd.PeriodIndex(f["Quarter"], freq="Q").to_timestamp().to_series(),
    ),
    "dates without marks": (
        COMPACT, "utf-8", {}, {"dtype": {"DATE": str}}, ["x"],
        lambda f: _dates(f["DATE"], format="%Y%m%d"),
    ),
    "parts of seconds": (
        SECONDS, "utf-8", {"time": "t", "time_format": "unix"}, {}, ["x"],
        lambda f: _dates(f["t"], unit="s"),
    ),
    "nanoseconds": (
        NANOSECONDS, "utf-8", {"time": "t", "time_format": "unix_ns"}, {}, ["x"],
        lambda f: _dates(f["t"], unit="ns"),
    ),
    "marks of missing cells": (
        MARKS, "utf-8", {"na_values": ["missing", "---"]}, {"na_values": ["missing", "---"]},
        ["x"], lambda f: _dates(f["date"]),
    ),
    "a comma in a name": (
        WIDE_HEADER, "utf-8", {}, {"sep": ";"}, ["T, deg"], lambda f: _dates(f["date"]),
    ),
    "fields apart by blanks": (
        BLANKS, "utf-8", {"delimiter": r"\s+", "time": ["YY", "MM"], "time_format": "%Y %m"},
        {"sep": r"\s+"}, ["WSPD", "PRES"],
        lambda f: _dates(f["YY"].astype(str) + "-" + f["MM"].astype(str).str.zfill(2) + "-01"),
    ),
    "no names": (
        NO_NAMES, "utf-8", {"header": None, "names": ["day", "T", "p"]},
        {"header": None, "names": ["day", "T", "p"]}, ["T", "p"], lambda f: _dates(f["day"]),
    ),
}  # fmt: skip
